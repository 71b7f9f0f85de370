"""How many frames a Gymnasium environment plays in one of its own steps."""

from __future__ import annotations

from typing import Any

import gymnasium
from ale_py.env import AtariEnv
from gymnasium.wrappers import AtariPreprocessing, MaxAndSkipObservation

ATARI_FRAMES_PER_SECOND = 60.0
"""Of the console."""


def frames_per_env_step(env: gymnasium.Env[Any, Any]) -> int:
    """Returns the frames that ALE skips by its id, times those of Gymnasium's skipping wrappers.

    Of a number that ALE draws anew in each step, as for `Pong-v4`: its mean, rounded.
    """
    frames = 1
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, AtariPreprocessing):
            frames *= layer.frame_skip
        elif isinstance(layer, MaxAndSkipObservation):
            frames *= layer.__dict__["_skip"]  # it has no public name
        layer = layer.env
    if is_atari(env):
        skip: int | tuple[int, int] = layer._frameskip  # noqa: SLF001
        frames *= skip if isinstance(skip, int) else round((skip[0] + skip[1] - 1) / 2)
    return frames


def is_atari(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether a game of ALE is inside."""
    return isinstance(env.unwrapped, AtariEnv)
