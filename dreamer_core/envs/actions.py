"""How an action vector of the agent becomes the action that a Gymnasium environment takes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from gymnasium import spaces

from dreamer_core.envs.base import UnsupportedEnvironment, bounded_action, one_hot_index
from dreamer_core.types import FloatArray


def require_actions(task: str, space: Any) -> spaces.Discrete | spaces.Box:
    """Returns an action space if it can be mapped to one-hot vectors or to [-1, 1].

    Raises:
        UnsupportedEnvironment: it cannot.
    """
    is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0
    box = cast(Any, space)
    is_bounded = (
        is_vector
        and np.issubdtype(box.dtype, np.floating)
        and np.isfinite([box.low, box.high]).all()
    )
    if isinstance(space, spaces.Discrete) or is_bounded:
        return cast("spaces.Discrete | spaces.Box", space)
    raise UnsupportedEnvironment(
        f"{task} must take Discrete actions or a one-dimensional Box of bounded floats; it takes "
        f"{space}. Wrap it with gymnasium.wrappers.TransformAction or one of your own"
    )


def action_size(space: spaces.Discrete | spaces.Box) -> int:
    """Returns A."""
    return int(space.n) if isinstance(space, spaces.Discrete) else space.shape[0]


def native_action(action: FloatArray, space: spaces.Discrete | spaces.Box) -> Any:
    """Returns an action [A] as the environment takes it.

    Raises:
        ValueError: the action has another form.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.start) + one_hot_index(action, int(space.n))
    share = (bounded_action(action, space.shape[0]).astype(np.float64) + 1) / 2
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return np.clip(low + share * (high - low), low, high).astype(space.dtype)
