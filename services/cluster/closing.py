"""Ends of actors that hold an environment: what they do is given up, and they close it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from dreamer_core.envs.base import CLOSE_S
from services.cluster.ray_errors import LOST, reason

logger = logging.getLogger(__name__)

_ANSWER_S = 5.0  # for an actor to end what it does and to say that it has closed


def is_canceled() -> bool:
    """Whether the call that this process is doing was given up."""
    return ray.get_runtime_context().is_canceled()


def close_all(actors: Mapping[str, Any], calls: Sequence[Any] = ()) -> None:
    """Has actors close their environments, all at once; one that fails or hangs is a warning.

    Args:
        actors: handles by the name of the service; those that are dead are no matter.
        calls: references to what they are doing and is given up, if they ask `is_canceled`.
    """
    for call in calls:
        ray.cancel(call)
    closing = {actor.close.remote(): name for name, actor in actors.items()}
    if not closing:
        return
    ready, hanging = ray.wait(list(closing), num_returns=len(closing), timeout=CLOSE_S + _ANSWER_S)
    for reference in ready:
        try:
            ray.get(reference)
        except LOST:
            pass  # it has none any more
        except RayError as error:
            logger.warning("The %s did not close: %s", closing[reference], reason(error))
    for reference in hanging:
        logger.warning(
            "The %s is ended without closing its environment: it was busy for %.0f s",
            closing[reference],
            CLOSE_S + _ANSWER_S,
        )
