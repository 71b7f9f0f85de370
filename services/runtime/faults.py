"""What an error of a service means, how often services were replaced, and when to give up."""

from __future__ import annotations

import logging
import time
from collections import Counter

from dreamer_core.agent.agent import NonFiniteLoss
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.errors import NO_ROOM, BadInput, DreamerError
from dreamer_core.report.report import Report
from dreamer_core.run.schedule import Schedule
from services.runtime.calls import Call, CallFailed, NotStarted, Raised
from services.runtime.crew import REQUIRED, ServiceLost

logger = logging.getLogger(__name__)

_RESUME = "Mend it and start the same command again: the run resumes from its directory"


def must_replace(call: Call, error: Raised) -> bool:
    """Tells what to do about an exception that a service raised.

    Returns:
        Whether the service has to be replaced; else it is whole, and the work is tried again.

    Raises:
        NonFiniteLoss: the learner met one.
        BadInput: a service refused what the user gave.
        ServiceLost: a replacement won't mend it.
        Raised: it is a bug of ours in what training needs; one elsewhere is logged with its trace.
    """
    cause = error.cause
    if isinstance(cause, NonFiniteLoss):
        raise cause
    if isinstance(cause, OSError) and not isinstance(error, NotStarted):
        is_saving = call.verb in ("save", "flush")
        if is_saving or (call.verb == "insert" and cause.errno in NO_ROOM):
            return False
    if isinstance(cause, EnvironmentCrashed | CallFailed):
        return True
    if call.service not in REQUIRED:
        if not isinstance(cause, DreamerError | OSError):
            logger.error("A bug in the %s; training goes on", call.service, exc_info=error)
        return True
    if isinstance(cause, BadInput):
        raise cause from error
    if isinstance(cause, DreamerError | OSError):
        did = "could not start" if isinstance(error, NotStarted) else "failed"
        raise ServiceLost(f"The {call.service} {did}: {cause}. {_RESUME}") from error
    raise error


class Faults:
    """Counts what failed and what was replaced, for the metrics and for giving up.

    Args:
        max_fruitless_restarts: without a step of progress between them.
    """

    def __init__(self, max_fruitless_restarts: int) -> None:
        self._max_fruitless = max_fruitless_restarts
        self._restarts = Counter[str]()
        self._errors = Counter[str]()
        self._fruitless = 0
        self._furthest = (-1, -1)

    def count_attempt(self, schedule: Schedule, error: CallFailed) -> None:
        """Counts an attempt to go on after an error.

        Only a position further than all before is progress: steps that are taken again are none.

        Raises:
            ServiceLost: there were too many without a step of progress between them.
        """
        progress = (schedule.policy_steps, schedule.gradient_steps)
        self._fruitless = 0 if progress > self._furthest else self._fruitless + 1
        self._furthest = max(progress, self._furthest)
        if self._fruitless >= self._max_fruitless:
            raise ServiceLost(
                f"A service died {self._fruitless + 1} times at policy step {progress[0]} "
                f"without progress; the last reason was: {error}. {_RESUME}"
            ) from error

    def replaced(self, service: str) -> Report:
        """Notes that a service was replaced."""
        logger.info("Replaced the %s", service)
        kind = service.partition("-")[0]
        self._restarts[kind] += 1
        return _report(kind, {"dreamer_restarts_total": self._restarts[kind]})

    def failed(self, service: str, text: str) -> Report:
        """Notes that a service was lost or could not do its work."""
        logger.error("%s: %s", service, text)
        kind = service.partition("-")[0]
        self._errors[kind] += 1
        values = {
            "dreamer_errors_total": self._errors[kind],
            "dreamer_last_error_timestamp_seconds": time.time(),
        }
        return _report(kind, values)


def _report(service: str, values: dict[str, float]) -> Report:
    return Report(service="supervisor", values=values, labels={"service": service})
