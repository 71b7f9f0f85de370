"""Every stream of random numbers of a run, and how its generators are keyed.

No generator is saved: each is made from a key of whole numbers, a seed and counters among them, so
a resumed run draws what the interrupted one would have drawn. The word of a stream stands in its
keys and keeps two uses of the same counters apart. Two keys hold no word: that of the sequences of
a batch (seed, gradient step) and that of the no-ops (seed of the environment).
"""

from __future__ import annotations

from enum import Enum

import numpy as np


class Stream(Enum):
    """A use of random numbers: its word, and the key of its generators."""

    WEIGHTS = (0, "seed, word")
    """Of the networks, at the start."""
    TRAIN = (1, "seed, word, gradient step")
    """Latents and actions of a gradient step."""
    PICTURE = (2, "seed, word")
    """Latents of open-loop pictures."""
    ACT = (10, "seed, word, incarnation, episode, step")
    """Latents and actions in the collector, and its random play."""
    EVALUATE = (11, "word, seed of the environment, policy steps in `dreamer local`, episode, step")
    """Latents and actions of evaluation and `dreamer watch`."""
    ENV = (12, "seed, word, incarnation")
    """The seed of an environment."""
    DREAM = (13, "word, seed of the environment, episode, step")
    """What the agent imagines while it is watched."""
    ANALYSIS = (14, "seed, word")
    """Which sequences an analysis of the world model looks at, and its latents."""
    STICKY_ACTIONS = (1, "seed of the environment, word")
    """Which Atari frames repeat the action before."""

    def __init__(self, word: int, key: str) -> None:
        self.word = word
        self.key = key


EVALUATOR_INCARNATION = 2**20
"""Of the first evaluator of a run; collectors count from 0."""
ATTACHED_INCARNATION = 2**21
"""The lowest of evaluators that are attached to a running run."""
HELD_OUT_INCARNATION = 2**22
"""The lowest of those that play for an analysis of the world model: their seed is added."""


def env_seed(seed: int, incarnation: int) -> int:
    """Seed of the environment in this life of a collector or evaluator, 0 to 2^31 - 1."""
    words = np.random.SeedSequence([seed, Stream.ENV.word, incarnation]).generate_state(1)
    return int(words[0] >> 1)
