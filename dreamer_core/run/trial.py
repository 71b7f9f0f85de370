"""A trial of an environment: some policy steps of random play as the collector would take them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dreamer_core.bars import picture_of
from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import Environment, EnvironmentCrashed, EnvStep, UnsupportedEnvironment
from dreamer_core.envs.suites import make_env, opened
from dreamer_core.run.rollout import random_action
from dreamer_core.types import EnvSpec, UInt8Array

_MOST_PICTURES = 31  # after the first; spread over the trial
_MOST_COMPARED = 200  # steps; enough for an environment that is not seeded to show it


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the agent sees of one step."""

    step: int
    """Policy steps of the trial before it."""
    reward: float
    image: UInt8Array
    """[64, 64, 1 or 3]; a vector without an image as bars."""


@dataclass(slots=True, kw_only=True)
class Trial:
    """What was seen of an environment in random play."""

    spec: EnvSpec
    spaces: tuple[str, str]
    """Observations and actions in the environment's own words."""
    own_limit_steps: int | None
    """Policy steps after which it says that it ends an episode itself; None if it does not."""
    num_steps: int = 0
    """Policy steps taken."""
    rewards: list[float] = field(default_factory=list[float])
    """Of each policy step."""
    lengths: list[int] = field(default_factory=list[int])
    """Policy steps of each episode that ended."""
    returns: list[float] = field(default_factory=list[float])
    """Of each episode that ended."""
    num_terminal: int = 0
    """Episodes that ended by themselves and not by a limit."""
    brightest: int = 0
    """Largest value of any pixel, 0 to 255."""
    is_still: bool = True
    """All that was observed is the same."""
    num_alike: int = 0
    """Steps that changed nothing of what is observed."""
    largest: float = 0.0
    """Largest size of any number of the vectors."""
    screen: UInt8Array | None = None
    """[H, W, 1 or 3], what a person would see at the end of the trial."""
    pictures: list[Picture] = field(default_factory=list[Picture])
    """Some steps in order, from the first."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Spent on make, reset, step (rendering included) and render."""
    differs_at: int | None = None
    """First policy step at which a second environment of the same seed and actions showed something
    else; 0 is the reset. None if none did."""
    num_repeated: int = 0
    """Policy steps that were compared for that."""
    crash: EnvironmentCrashed | None = None
    """What ended the trial early."""
    second_failure: EnvironmentCrashed | UnsupportedEnvironment | None = None
    """How the second environment failed, where the first did not."""
    close_failure: EnvironmentCrashed | None = None
    """How it failed to close."""

    @property
    def num_unfinished(self) -> int:
        """Policy steps of the episode that did not end."""
        return self.num_steps - sum(self.lengths)

    @property
    def steps_per_second(self) -> float:
        """Policy steps a second, resets included."""
        spent_s = self.seconds.get("reset", 0.0) + self.seconds.get("step", 0.0)
        return self.num_steps / spent_s if spent_s else float("inf")


def try_environment(
    config: EnvConfig, *, steps: int, seed: int = 0, is_repeated: bool = False
) -> Trial:
    """Plays an environment at random, and looks at what comes.

    A crash once it is made ends the trial and is part of it.

    Args:
        config: names the environment.
        steps: policy steps to take.
        seed: of the environment and the actions.
        is_repeated: also sees whether another one of the same seed shows the same.

    Raises:
        UnknownTask, UnsupportedEnvironment, EnvironmentCrashed: see `make_env`.
    """
    began_s = time.perf_counter()
    seen: list[EnvStep] = []
    with chdir(Path.cwd()):  # which an environment may change
        env = make_env(config, seed)
        made_s = time.perf_counter() - began_s
        try:
            trial = _first(env, steps, seed, seen)
        finally:
            failure = _close(env)
    trial.seconds["make"], trial.close_failure = made_s, failure
    if is_repeated and trial.crash is None:
        try:
            _repeat(config, seed, seen, trial)
        except (EnvironmentCrashed, UnsupportedEnvironment) as failure:
            trial.second_failure = failure
    return trial


def _first(env: Environment, steps: int, seed: int, seen: list[EnvStep]) -> Trial:
    """Plays an environment, and puts the first steps into `seen`."""
    trial = Trial(spec=env.spec, spaces=env.spaces, own_limit_steps=env.own_limit_steps)
    before: EnvStep | None = None
    try:
        for is_reset, step in _played(env, steps, seed, trial.seconds):
            _note(trial, step, is_reset=is_reset, before=before)
            if trial.num_steps % math.ceil(steps / _MOST_PICTURES) == 0:
                _take_picture(trial, step)
            before = step
            if len(seen) < _MOST_COMPARED:
                seen.append(step)
        trial.screen = env.screen()
    except EnvironmentCrashed as crash:
        trial.crash = crash
    return trial


def _close(env: Environment) -> EnvironmentCrashed | None:
    """Closes an environment, and returns how it failed to."""
    try:
        env.close()
    except EnvironmentCrashed as failure:
        return failure
    return None


def _played(
    env: Environment, steps: int, seed: int, seconds: dict[str, float]
) -> Iterator[tuple[bool, EnvStep]]:
    """Yields each reset (True) and each of so many policy steps; adds up the time of them."""
    rng = np.random.default_rng(seed)
    taken, is_last = 0, True
    while taken < steps:
        is_reset, action = is_last, random_action(rng, env)
        began_s = time.perf_counter()
        step = env.reset() if is_reset else env.step(action)
        part = "reset" if is_reset else "step"
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - began_s
        seconds["render"] = env.render_s
        taken += not is_reset
        yield is_reset, step
        is_last = step.is_last


def _note(trial: Trial, step: EnvStep, *, is_reset: bool, before: EnvStep | None) -> None:
    """Takes down what one step shows."""
    if step.image.size:
        trial.brightest = max(trial.brightest, int(step.image.max()))
    if step.vector is not None and step.vector.size:
        trial.largest = max(trial.largest, float(np.abs(step.vector).max()))
    is_alike = before is not None and _is_seen_alike(before, step)
    trial.is_still &= before is None or is_alike
    if is_reset:
        return
    trial.num_steps += 1
    trial.num_alike += is_alike
    trial.rewards.append(step.reward)
    if step.is_last:
        begun = sum(trial.lengths)
        trial.returns.append(sum(trial.rewards[begun:]))
        trial.lengths.append(trial.num_steps - begun)
        trial.num_terminal += step.is_terminal


def _take_picture(trial: Trial, step: EnvStep) -> None:
    image = picture_of(step.image, step.vector)
    trial.pictures.append(Picture(step=trial.num_steps, reward=step.reward, image=image))


def _repeat(config: EnvConfig, seed: int, seen: list[EnvStep], trial: Trial) -> None:
    """Plays the same again in an environment of its own, and compares."""
    with opened(config, seed, trial.spec) as env:
        again = _played(env, trial.num_steps, seed, {})
        for first, (is_reset, step) in zip(seen, again, strict=False):
            trial.num_repeated += not is_reset
            is_same = _is_seen_alike(first, step) and (first.reward, first.is_last) == (
                step.reward,
                step.is_last,
            )
            if not is_same:
                trial.differs_at = trial.num_repeated
                return


def _is_seen_alike(one: EnvStep, other: EnvStep) -> bool:
    """Whether the agent would see the same."""
    numbers, others = one.vector, other.vector
    is_same = numbers is None or others is None or np.array_equal(numbers, others)
    return is_same and np.array_equal(one.image, other.image)
