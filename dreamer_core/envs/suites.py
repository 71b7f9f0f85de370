"""Environments as the collector sees them: images of 64x64 out, one action vector in.

`make_env` is the way in. Suite `atari` is the Arcade Learning Environment under the protocol of
DreamerV2, sec. 3; suite `gymnasium` is any Gymnasium environment that observes an image. Both
pass every image through the same `resize_image`.
"""

from __future__ import annotations

from dreamer_core.config import EnvConfig
from dreamer_core.envs.atari import AtariEnvironment
from dreamer_core.envs.base import (
    Environment,
    EnvironmentCrashed,
    EnvStep,
    UnknownTask,
    UnsupportedEnvironment,
    resize_image,
)
from dreamer_core.envs.gymnasium import GymnasiumEnvironment
from dreamer_core.types import EnvSpec

__all__ = [
    "EnvStep",
    "Environment",
    "EnvironmentCrashed",
    "UnknownTask",
    "UnsupportedEnvironment",
    "environment_spec",
    "make_env",
    "resize_image",
]


def make_env(config: EnvConfig, seed: int) -> Environment:
    """Returns the environment that a config names, not yet reset.

    Args:
        config: suite, task and protocol.
        seed: 0 or more. The same seed and actions give the same images and rewards.

    Raises:
        UnknownTask: the task names nothing that could be loaded.
        UnsupportedEnvironment: the environment is of a kind that is not handled.
        EnvironmentCrashed: the user's code raised while the environment was made.
    """
    if config.suite == "atari":
        return AtariEnvironment(config, seed)
    return GymnasiumEnvironment(config, seed)


def environment_spec(config: EnvConfig) -> EnvSpec:
    """Returns the shapes of the environment that a config names; makes it once, and closes it.

    Raises:
        Whatever `make_env` raises, so that a bad name is told before anything is written.
    """
    env = make_env(config, seed=0)
    try:
        return env.spec
    finally:
        env.close()
