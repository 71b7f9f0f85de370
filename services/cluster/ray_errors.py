"""What Ray's errors mean: what a replacement mends, and the reason in one line."""

from __future__ import annotations

from ray.exceptions import (
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)

LOST = (
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
"""A process or a machine is gone, or what it held; a replacement mends that."""


def reason(error: BaseException) -> str:
    """The exception itself, from Ray's many lines; of a death the first sentence is enough."""
    if isinstance(error, ObjectLostError):
        return "what it was handed was lost with its node"  # Ray's advice is of no use here
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    has_died = isinstance(error, RayActorError) and not failed_to_start(error)
    return lines[-1].split(". ")[0] if has_died else lines[-1]


def failed_to_start(error: BaseException | None) -> bool:
    """Whether a service died of an exception in its constructor."""
    return isinstance(error, RayActorError) and error.actor_init_failed
