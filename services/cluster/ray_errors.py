"""What Ray's errors mean: what a replacement mends, and the reason in one line."""

from __future__ import annotations

from collections.abc import Iterator

from ray.exceptions import (
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from dreamer_core.errors import DreamerError

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


def deliberate(error: BaseException | None) -> DreamerError | None:
    """What a service raised on purpose, in a call or in its constructor; None if it did not.

    Of a constructor Ray hands on the words alone, which begin with the name of the error's class.
    """
    if isinstance(error, RayTaskError):
        cause: BaseException = error.cause
        return cause if isinstance(cause, DreamerError) else None
    if error is None or not failed_to_start(error):
        return None
    name, _, words = reason(error).partition(": ")
    kind = {f"{k.__module__}.{k.__qualname__}": k for k in _kinds(DreamerError)}.get(name)
    return None if kind is None else kind(words)


def _kinds(root: type[DreamerError]) -> Iterator[type[DreamerError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def failed_to_start(error: BaseException | None) -> bool:
    """Whether a service died of an exception in its constructor."""
    return isinstance(error, RayActorError) and error.actor_init_failed
