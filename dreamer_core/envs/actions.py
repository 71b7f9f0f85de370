"""How an action vector of the agent becomes the action that a Gymnasium environment takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_core.envs.base import (
    MOST_NUMBERS,
    UNBOUNDED,
    UnsupportedEnvironment,
    bounded_action,
    one_hot_index,
)
from dreamer_core.envs.observations import foreign_space_flaw
from dreamer_core.types import FloatArray

_TRANSFORM = "gymnasium.wrappers.TransformAction"


@dataclass(frozen=True, slots=True)
class Actions:
    """The action vectors [A] of one environment."""

    size: int
    """A."""
    classes: tuple[int, ...] | None
    """Sizes of the one-hot parts, which follow one another; None where actions are continuous."""
    native: Callable[[FloatArray], Any]
    """Returns an action as the environment takes it; ValueError where it has another form."""


def actions_of(task: str, space: Any) -> Actions:
    """Returns the action vectors that are mapped to a space.

    Discrete, MultiDiscrete and MultiBinary take one one-hot part a choice; a Box takes one number
    in [-1, 1] an entry, rescaled to its bounds.

    Raises:
        UnsupportedEnvironment: the space is none of these, its bounds are not known, or it has too
            many values.
    """
    actions = _known(space)
    if actions is not None and actions.size > MOST_NUMBERS:
        raise UnsupportedEnvironment(
            f"{task} takes {space}, which is an action of {actions.size:,} numbers, one for each "
            f"value of a choice; up to {MOST_NUMBERS:,} are taken. Split a choice into several, as "
            "a MultiDiscrete"
        )
    if actions is not None:
        return actions
    foreign = foreign_space_flaw(space)
    raise UnsupportedEnvironment(
        f"{task} must take Discrete, MultiDiscrete or MultiBinary actions or a Box of bounded "
        f"floats; it takes {space}. {_box_flaw(space) if foreign is None else f'It {foreign}'}"
    )


def _known(space: Any) -> Actions | None:
    """Returns the action vectors of a space; None where it is of a kind that is not handled."""
    if isinstance(space, spaces.Discrete):
        start, count = int(space.start), int(space.n)
        return Actions(count, (count,), lambda action: start + one_hot_index(action, count))
    if isinstance(space, spaces.MultiDiscrete):
        return _choices(space, space.nvec, space.start)
    if isinstance(space, spaces.MultiBinary):
        return _choices(space, np.full(space.shape, 2), np.zeros(space.shape, space.dtype))
    return _box(space) if _box_flaw(space) is None else None


def _choices(space: Any, counts: Any, start: Any) -> Actions:
    """Actions of several choices at once."""
    classes = tuple(int(count) for count in counts.flat)
    ends = np.cumsum(classes)

    def native(action: FloatArray) -> Any:
        if action.shape != (ends[-1],):
            raise ValueError(
                f"an action must hold one-hot parts of {classes} entries, got {action!r} of shape "
                f"{action.shape}"
            )
        parts = zip(np.split(action, ends[:-1]), classes, strict=True)
        picked = np.array([one_hot_index(part, count) for part, count in parts])
        return (picked.reshape(space.shape) + start).astype(space.dtype)

    return Actions(int(ends[-1]), classes, native)


def _box(space: Any) -> Actions:
    """Actions of a bounded Box, whose entries follow one another as in its memory."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    size = low.size

    def native(action: FloatArray) -> Any:
        share = (bounded_action(action, size).astype(np.float64) + 1) / 2
        scaled = np.clip(low + share.reshape(low.shape) * (high - low), low, high)
        return np.asarray(scaled, space.dtype)  # an array also where it has no axis

    return Actions(size, None, native)


def _box_flaw(space: Any) -> str | None:
    """Returns what to do about a space that [-1, 1] cannot be rescaled to; None if it can."""
    if not isinstance(space, spaces.Box):
        return (
            f"Wrap it with {_TRANSFORM}, or one of your own, so that it takes one of these; for a "
            "Dict or Tuple of Boxes: "
            f"{_TRANSFORM}(env, lambda x: spaces.unflatten(env.action_space, x), "
            "spaces.flatten_space(env.action_space)), and for a Tuple of Discretes: "
            f"{_TRANSFORM}(env, tuple, spaces.MultiDiscrete([...]))"
        )
    box: Any = space
    if box.low.size == 0:
        return "It has no entries, so there is nothing to learn: give it an action"
    if not np.issubdtype(box.dtype, np.floating):
        return (
            "Its entries are whole numbers: take a MultiDiscrete if they are choices, else "
            f"{_TRANSFORM}(env, lambda x: np.rint(x).astype(env.action_space.dtype), "
            "spaces.Box(low, high, shape))"
        )
    if not (np.abs([box.low.astype(np.float64), box.high.astype(np.float64)]) < UNBOUNDED).all():
        return (
            "It has no bounds that [-1, 1] could be rescaled to: choose them with "
            f"{_TRANSFORM}(env, lambda x: x, spaces.Box(low, high, shape))"
        )
    return None
