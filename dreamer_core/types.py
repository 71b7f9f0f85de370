"""What travels between the parts of a run, and the one time alignment they all share.

Row t of an episode holds what is known on *arriving* at image t:

    t             0     1     2     3
    image         x0    x1    x2    x3     the vector, if there is one, likewise
    prev_action   0     a0    a1    a2     the action that led to x_t; hence its name
    reward        0     r1    r2    r3     received together with x_t
    is_first      1     0     0     0      the recurrent state and prev_action are zeroed here
    is_last       0     0     0     1      the episode stops, by its own end or by a limit
    is_terminal   0     0     0     0|1    its own end: the discount target is 0

An episode of n policy steps has n + 1 rows. Arrays are numpy: images stay uint8 until the
learner's edge, and arrays that came over the wire are read-only (copy before writing).

Shape letters, the same in every file of this package:
    B batch   T time   H imagination horizon   A action size   E embedding size
    D deterministic size (h_t)   S stochastic variables   C classes of each (z_t)   N rows
    V size of the observed vector
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSpec:
    """Sizes that the networks and the replay are built from, and how frames are counted."""

    image_shape: tuple[int, int, int]
    """(64, 64, channels); no channels where no image is observed."""
    action_size: int
    """A, length of an action vector."""
    is_discrete: bool
    """Actions are one-hot; otherwise they lie in [-1, 1]."""
    action_names: tuple[str, ...] | None
    """Name of each entry of an action; None where the environment names none."""
    action_classes: tuple[int, ...] | None = None
    """Of several choices at once: the sizes of their one-hot parts, which sum to A. None: one."""
    vector_size: int = 0
    """V, numbers observed besides the image; 0 where there are none."""
    frames_per_policy_step: int = field(default=1, compare=False)
    """Env frames that an action is played for, counted and no size: action repeat, times what the
    environment skips by itself in each of its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeChunk:
    """Consecutive rows of one episode, as a collector sends them to the replay.

    `(incarnation, episode)` names the episode and `first_step` the place of the first row in it,
    so that inserting the same chunk twice stores it once.
    """

    incarnation: int
    """Which life of the collector wrote it, counted from 0 over the run."""
    episode: int
    """Number of the episode within the incarnation, from 0."""
    first_step: int
    """Index t of the first row within the episode."""
    image: UInt8Array
    """[N, 64, 64, channels]."""
    prev_action: FloatArray
    """[N, A]; one-hot (in each part) for discrete actions, in [-1, 1] for continuous ones."""
    reward: FloatArray
    """[N], as the environment gave it: neither clipped nor squashed."""
    is_first: BoolArray
    """[N]."""
    is_last: BoolArray
    """[N]."""
    is_terminal: BoolArray
    """[N]."""
    vector: FloatArray | None = None
    """[N, V]; None where no vector is observed."""

    def __len__(self) -> int:
        """Number of rows N."""
        return len(self.reward)

    @property
    def policy_steps(self) -> int:
        """Actions taken: every row but the first of an episode."""
        return len(self) - int(self.is_first.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B sequences of T rows, aligned as in this module's chart."""

    image: UInt8Array
    """[B, T, 64, 64, channels]."""
    prev_action: FloatArray
    """[B, T, A]."""
    reward: FloatArray
    """[B, T]."""
    is_first: BoolArray
    """[B, T]; always true at t = 0, where each sampled sequence starts from the zero state."""
    is_terminal: BoolArray
    """[B, T]."""
    vector: FloatArray | None = None
    """[B, T, V]; None where no vector is observed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSnapshot:
    """What a policy needs to act, and how old it is."""

    version: int
    """Gradient steps taken when it was made."""
    params: Mapping[str, FloatArray]
    """Encoder, RSSM and actor weights by name; float32."""
