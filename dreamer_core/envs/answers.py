"""What an environment of Gymnasium answers to reset and step, in the form that it should have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.envs.calling import OLD_INTERFACE
from dreamer_core.types import UInt8Array

_WORD_LENGTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One step of the environment's own."""

    observation: Any
    """As it came."""
    reward: float
    """Finite as a float32."""
    is_terminal: bool
    """`terminated`."""
    is_truncated: bool
    """`truncated`."""
    info: Any
    """As it came."""


def observation_and_info(task: str, answer: Any) -> tuple[Any, Any]:
    """Returns what reset answered.

    Raises:
        EnvironmentCrashed: it is no (observation, info).
    """
    is_pair = isinstance(answer, tuple | list) and len(cast("tuple[Any, ...]", answer)) == 2
    if is_pair and (answer[1] is None or isinstance(answer[1], Mapping)):
        return answer[0], answer[1]
    raise EnvironmentCrashed(
        f"{task}: reset returned {_words(answer)}, Gymnasium wants (observation, info), of which "
        f"info is a dict (old Gym interface?); {OLD_INTERFACE}"
    )


def frame_of(task: str, answer: Any) -> Frame:
    """Returns what step answered.

    Raises:
        EnvironmentCrashed: it is no (observation, reward, terminated, truncated, info).
    """
    if not isinstance(answer, tuple | list) or len(cast("tuple[Any, ...]", answer)) != 5:
        values = cast("tuple[Any, ...]", answer)
        count = f"{len(values)} values" if isinstance(answer, tuple | list) else _words(answer)
        is_old = isinstance(answer, tuple | list) and len(values) == 4
        old = " (old Gym interface)" if is_old else ""
        raise EnvironmentCrashed(
            f"{task}: step returned {count}, Gymnasium wants 5{old}; {OLD_INTERFACE}"
        )
    observation, reward, terminated, truncated, info = cast("tuple[Any, ...]", answer)
    return Frame(
        observation=observation,
        reward=_reward(task, reward),
        is_terminal=_flag(task, "terminated", terminated),
        is_truncated=_flag(task, "truncated", truncated),
        info=info,
    )


def picture_from(task: str, answer: Any) -> UInt8Array:
    """Returns what render answered as [H, W, 1 or 3], without an alpha.

    Raises:
        EnvironmentCrashed: it is no picture.
    """
    if isinstance(answer, np.ndarray) and answer.dtype == np.uint8 and answer.size:
        array: UInt8Array = answer[..., None] if answer.ndim == 2 else answer
        if array.ndim == 3 and array.shape[2] in (1, 3, 4):
            return array[..., :3].copy()
    raise EnvironmentCrashed(
        f"{task}: render returned {_words(answer)}, wanted for render_mode='rgb_array' is an array "
        "of uint8 and shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"
    )


def require_float32(task: str, reward: float) -> float:
    """Returns a reward, which is stored and learned as a float32.

    Raises:
        EnvironmentCrashed: it is too large for that.
    """
    if abs(reward) <= float(np.finfo(np.float32).max):
        return reward
    raise EnvironmentCrashed(
        f"{task} gave a reward of {reward:g}, which is too large for the float32 that it is "
        "learned as; scale its rewards down, with gymnasium.wrappers.TransformReward"
    )


def _reward(task: str, reward: Any) -> float:
    """One frame's reward as a float."""
    try:
        array = np.asarray(reward)
        is_number = array.shape == () and array.dtype.kind in "biuf" and bool(np.isfinite(array))
    except Exception:  # noqa: BLE001 (numpy makes nothing of it, whatever that raises)
        is_number = False
    if is_number:
        return require_float32(task, float(reward))
    raise EnvironmentCrashed(
        f"{task} must return one finite number as the reward, but returned {_words(reward)}; "
        "correct its step"
    )


def _flag(task: str, name: str, value: Any) -> bool:
    """`terminated` or `truncated` as a bool."""
    if isinstance(value, bool | int | float | np.bool_ | np.number):
        return bool(value)
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biuf":
        return bool(value.item())
    raise EnvironmentCrashed(
        f"{task} must return True or False as {name}, but returned {_words(value)}; step returns "
        "(observation, reward, terminated, truncated, info)"
    )


def _words(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray) and value.size > 1:
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, tuple):
        kinds = ", ".join(type(part).__name__ for part in cast("tuple[Any, ...]", value))
        return f"({kinds})"
    if isinstance(value, dict):
        keys = ", ".join(map(str, cast("dict[Any, Any]", value)))
        return f"a dict of {keys}"
    words = repr(value)
    return words if len(words) <= _WORD_LENGTH else f"{words[:_WORD_LENGTH]}..."
