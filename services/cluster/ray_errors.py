"""What Ray's errors mean: what a replacement mends, and the reason in one line."""

from __future__ import annotations

import builtins
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

from dreamer_core.errors import DreamerError, Failed

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
    kinds = {f"{k.__module__}.{k.__qualname__}": k for k in _kinds(DreamerError)}
    lines = str(error).splitlines()
    for number in reversed(range(len(lines))):  # the message may have several lines
        name, is_named, words = lines[number].partition(": ")
        if is_named and name in kinds:
            return kinds[name]("\n".join([words, *lines[number + 1 :]]))
    return None


def start_error(error: BaseException) -> Exception:
    """What a service's constructor raised, as far as Ray tells."""
    told = deliberate(error)
    if told is not None:
        return told
    words = reason(error)
    if "failed to import on the worker" in str(error):
        return Failed(f"the program could not be imported on its node ({words}); install it there")
    kind: object = getattr(builtins, words.partition(": ")[0], None)
    is_outside = isinstance(kind, type) and issubclass(kind, OSError)
    return OSError(words) if is_outside else RuntimeError(words)


def _kinds(root: type[DreamerError]) -> Iterator[type[DreamerError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def failed_to_start(error: BaseException | None) -> bool:
    """Whether a service died of an exception in its constructor."""
    return isinstance(error, RayActorError) and error.actor_init_failed
