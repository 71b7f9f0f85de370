"""Columns of other programs' episodes brought to the types of types.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamer_core.errors import BadInput
from dreamer_core.types import BoolArray, EnvSpec, FloatArray


def flags(values: Any, name: str) -> BoolArray:
    """Returns bool; raises BadInput, with the name, for what is neither true nor false."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.ndim == 0 or not np.isin(values, (0, 1)).all():
        raise BadInput(f"{name}: wanted an array of true and false, got other {values.dtype}")
    return values.astype(np.bool_)


def numbers(values: Any, name: str) -> FloatArray:
    """Returns float32; raises BadInput, with the name, for what are no numbers."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.ndim == 0:
        raise BadInput(f"{name}: wanted an array of numbers, got {values.dtype} {values.shape}")
    with np.errstate(over="ignore"):  # infinity is refused with the rest of what is not finite
        return values.astype(np.float32)


def one_hot(action: Any, spec: EnvSpec, name: str) -> FloatArray:
    """Returns actions as vectors [N, A]: the numbers of choices [N] become one-hot.

    Raises:
        BadInput: a choice is out of range.
    """
    action = np.asarray(action)
    is_choice = spec.is_discrete and action.ndim == 1 and action.dtype.kind in "iu"
    if not is_choice:
        return numbers(action, name)
    if ((action < 0) | (action >= spec.action_size)).any():
        raise BadInput(
            f"{name}: wanted choices from 0 to {spec.action_size - 1}, as the environment has, got "
            f"{action.min()} to {action.max()}"
        )
    return np.eye(spec.action_size, dtype=np.float32)[action]
