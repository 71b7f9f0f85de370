"""What every environment looks like from outside, and the rules that all of them share.

The suites are in atari.py, control.py and gymnasium.py; callers use suites.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import cv2
import numpy as np

from dreamer_core.errors import BadInput, Failed
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array

IMAGE_SIZE = 64
"""Height and width of every image, in pixels (sec. 3)."""
UNBOUNDED = 1e9
"""Declared bounds of this size or more say nothing about the values."""
MOST_NUMBERS = 65_536
"""Most entries of a vector or of an action: each is stored, and has weights, of its own."""
FRAMES_PER_SECOND = 30.0
"""Of environments that do not say."""
ACTION_TOLERANCE = 1e-5
"""How far rounding may carry a continuous action out of [-1, 1] before it is refused."""
OWN_PACKAGES = ("dreamer_core", "services")
"""Names of this program's own packages, which no other package of a process can have."""
CLOSE_S = 10.0
"""So long may an environment take to close; then it is left as it is."""

logger = logging.getLogger(__name__)

# Images are resized one at a time; OpenCV's threads would only compete with the learner's.
cv2.setNumThreads(1)


class UnknownTask(BadInput):
    """`EnvConfig.task` names nothing that could be loaded."""


class UnsupportedEnvironment(BadInput):
    """The environment exists, but it is of a kind that is not handled."""


class EnvironmentCrashed(Failed):
    """The environment raised an exception, or returned something else than it declares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvStep:
    """What is known on arriving at an image; see the chart in types.py."""

    image: UInt8Array
    """[64, 64, channels]; a new array each time. No channels where no image is observed."""
    reward: float
    """Sum over the frames of the policy step, neither clipped nor squashed; 0 at a reset."""
    is_last: bool
    """The episode stops here, by its own end or by a limit."""
    is_terminal: bool
    """The episode stops here by its own end."""
    vector: FloatArray | None = None
    """[V], a new array each time; None where no vector is observed."""
    info: Mapping[str, float] = field(default_factory=dict[str, float])
    """Last values in the episode up to here of the keys that `env.log_info` names."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the agent sees of one observation."""

    image: UInt8Array
    """[64, 64, channels]; no channels where there is none."""
    vector: FloatArray | None = None
    """[V]; None where there is none."""


class Environment(Protocol):
    """One environment. An episode begins with `reset` and runs until a step that `is_last`."""

    @property
    def spec(self) -> EnvSpec:
        """Sizes; constant over the environment's life."""
        ...

    @property
    def spaces(self) -> tuple[str, str]:
        """Observations and actions in the environment's own words, for a person."""
        ...

    @property
    def own_limit_steps(self) -> int | None:
        """Policy steps after which it says that it ends an episode itself; None if it does not."""
        ...

    def reset(self) -> EnvStep:
        """Starts an episode; also allowed in the middle of one.

        Raises:
            EnvironmentCrashed: the environment failed.
        """
        ...

    def step(self, action: FloatArray) -> EnvStep:
        """Takes one policy step, which is the same action for `action_repeat` frames.

        Args:
            action: [A]; one-hot for discrete actions, in [-1, 1] for continuous ones.

        Raises:
            ValueError: the action has another form, or no episode is running.
            EnvironmentCrashed: the environment failed; the episode is over.
        """
        ...

    def screen(self) -> UInt8Array:
        """Returns what a person would want to see of the newest step, [height, width, 1 or 3]."""
        ...

    @property
    def frames_per_second(self) -> float:
        """Pace of env frames, of which a policy step takes several, as a person should see it."""
        ...

    @property
    def render_s(self) -> float:
        """Seconds spent on rendering so far; 0 where that is not told apart from the rest."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Returns everything that the next steps depend on, as numbers, strings and arrays.

        None if the environment cannot tell: then a resumed run begins a new episode.
        """
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken.

        Raises:
            ValueError: the state is of another task, or cannot be restored.
        """
        ...

    def close(self) -> None:
        """Releases the simulator; no call may follow.

        Raises:
            EnvironmentCrashed: that failed, or took longer than CLOSE_S.
        """
        ...


def close_or_warn(env: Environment) -> None:
    """Closes an environment; what was done with it is good even where that fails."""
    try:
        env.close()
    except EnvironmentCrashed as error:
        logger.warning("%s", error)


def resize_image(image: UInt8Array) -> UInt8Array:
    """Returns an image as [64, 64, C]: area averaging where it shrinks, nearest where it grows.

    Args:
        image: [H, W] or [H, W, C].

    Returns:
        A new array, also where nothing is resized.
    """
    height, width = image.shape[:2]
    if height == width == IMAGE_SIZE:
        return image.reshape(IMAGE_SIZE, IMAGE_SIZE, -1).copy()
    resized: UInt8Array = np.ascontiguousarray(image)
    if max(height, width) > IMAGE_SIZE:
        smaller = (min(width, IMAGE_SIZE), min(height, IMAGE_SIZE))
        resized = cast(UInt8Array, cv2.resize(resized, smaller, interpolation=cv2.INTER_AREA))
    if min(height, width) < IMAGE_SIZE:
        full = (IMAGE_SIZE, IMAGE_SIZE)
        resized = cast(UInt8Array, cv2.resize(resized, full, interpolation=cv2.INTER_NEAREST))
    return resized.reshape(IMAGE_SIZE, IMAGE_SIZE, -1)


def next_episode_step(episode_steps: int | None) -> int:
    """Returns the number of policy steps of the episode once one more is taken.

    Args:
        episode_steps: steps taken so far; None where no episode is running.

    Raises:
        ValueError: no episode is running.
    """
    if episode_steps is None:
        raise ValueError(
            "step needs a running episode, but none has begun since the last one ended; "
            "call reset first"
        )
    return episode_steps + 1


def one_hot_index(action: FloatArray, action_size: int) -> int:
    """Returns the index that a one-hot action [A] picks.

    Raises:
        ValueError: the action is not one-hot, or not of A entries.
    """
    if action.shape == (action_size,):
        index = int(action.argmax())
        if action[index] == 1 and np.count_nonzero(action) == 1:
            return index
    raise ValueError(
        f"a discrete action must be a one-hot vector of shape ({action_size},), got {action!r} "
        f"of shape {action.shape}; pass a row of the identity matrix"
    )


def bounded_action(action: FloatArray, action_size: int) -> FloatArray:
    """Returns a continuous action [A], clipped to [-1, 1] where rounding carried it outside.

    Raises:
        ValueError: the action is not finite, lies outside [-1, 1], or has not A entries.
    """
    # Written so that NaN, for which every comparison is false, is refused.
    if action.shape == (action_size,) and bool((np.abs(action) <= 1 + ACTION_TOLERANCE).all()):
        return np.clip(action, -1, 1)
    raise ValueError(
        f"a continuous action must be finite, in [-1, 1] and of shape ({action_size},), got "
        f"{action!r} of shape {action.shape}; [-1, 1] is rescaled to the environment's own bounds"
    )
