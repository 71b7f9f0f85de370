"""Environments as the collector sees them: images of 64x64 out, one action vector in.

`make_env` is the way in. Suite `atari` is the Arcade Learning Environment under the protocol of
DreamerV2, sec. 3; suite `control` is DeepMind Control, rendered at 64 x 64; suite `gymnasium` is
any Gymnasium environment that observes an image or numbers. Images of other sizes pass through
`resize_image`.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import gymnasium

from dreamer_core.config import EnvConfig
from dreamer_core.envs.atari import AtariEnvironment, is_game
from dreamer_core.envs.base import (
    Environment,
    UnknownTask,
    UnsupportedEnvironment,
    close_or_warn,
)
from dreamer_core.envs.control import ControlEnvironment
from dreamer_core.envs.gymnasium import GymnasiumEnvironment
from dreamer_core.types import EnvSpec


def make_env(config: EnvConfig, seed: int, spec: EnvSpec | None = None) -> Environment:
    """Returns the environment that a config names, not yet reset.

    Args:
        config: suite, task and protocol.
        seed: 0 or more. The same seed and actions give the same images and rewards.
        spec: the sizes that it must have, of the one that the run was begun with; None for any.

    Raises:
        UnknownTask: the task names nothing that could be loaded.
        UnsupportedEnvironment: the environment is of a kind that is not handled, or of other sizes.
        EnvironmentCrashed: the user's code raised while the environment was made.
    """
    env = _made(config, seed)
    if spec is None or replace(env.spec, action_names=None) == replace(spec, action_names=None):
        return env
    close_or_warn(env)
    raise UnsupportedEnvironment(
        f"{config.task} made an environment of other sizes than before: {env.spec}, and the run's "
        f"is {spec}. A run makes several: have all observe and act alike, and draw in reset what "
        "is to differ"
    )


def _made(config: EnvConfig, seed: int) -> Environment:
    if config.suite == "atari":
        return AtariEnvironment(config, seed)
    if config.suite == "control":
        return ControlEnvironment(config, seed)
    return GymnasiumEnvironment(config, seed)


def suite_of(task: str) -> Literal["atari", "gymnasium", "control"]:
    """Returns the suite that a task must be of by its name alone.

    Raises:
        UnknownTask: it is no name of any.
    """
    if any(mark in task for mark in ":/") or task in gymnasium.registry:
        return "gymnasium"
    if is_game(task):
        return "atari"
    if re.search(r"-v\d+$", task):
        return "gymnasium"
    if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", task):
        return "control"
    raise UnknownTask(
        f"{task!r} is no game of Atari, no DOMAIN_TASK of DeepMind Control, no id of Gymnasium and "
        "no package.module:make_env; correct it, or say whose it is with --env.suite"
    )


@contextmanager
def opened(config: EnvConfig, seed: int, spec: EnvSpec | None = None) -> Generator[Environment]:
    """Makes an environment and closes it after the block; one that fails to close is a warning.

    Where it changes the working directory, that is as before after the block.

    Args:
        config: as in `make_env`, as are the others.
        seed: 0 or more.
        spec: the sizes that it must have; None for any.

    Raises:
        UnknownTask, UnsupportedEnvironment, EnvironmentCrashed: see `make_env`.
    """
    with chdir(Path.cwd()):
        env = make_env(config, seed, spec)
        try:
            yield env
        finally:
            close_or_warn(env)


def environment_spec(config: EnvConfig) -> EnvSpec:
    """Returns the shapes of the environment that a config names; makes it once, and closes it.

    Raises:
        Whatever `make_env` raises, so that a bad name is told before anything is written.
    """
    with opened(config, seed=0) as env:
        return env.spec
