"""The crew of a run: services brought up, asked with a time limit, found dead, replaced.

What a run needs are replay, learner and collector. Beside them stand the exchange, where
evaluators of other jobs find weights, and the run's own evaluators; training waits for neither.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dreamer_core.errors import BadInput, DreamerError, Failed
from dreamer_core.replay.replay import ReplayCounts
from dreamer_core.run.progress import next_incarnation
from services.runtime.calls import READY, CallFailed, Calls, Host, Lost, NotStarted, Raised, Silent
from services.runtime.config import RuntimeConfig

logger = logging.getLogger(__name__)

EXCHANGE = "exchange"
"""Under which name evaluators of other jobs find the exchange, in the run's namespace."""
REQUIRED = ("collector", "learner", "replay")
"""Services that training waits for."""
_CLOSE_S = 10.0
_PROBE_S = 3.0  # for answers that need no work; a process that is starved may take a while


class ServiceLost(Failed):
    """A service cannot start, dies without progress, or failed in a way that restarts won't mend.

    What was acknowledged and the last checkpoint are good: the run is resumable.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the services stand while nothing is under way."""

    counts: ReplayCounts
    """Of the replay."""
    gradient_steps: int
    """Taken by the learner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPoint:
    """Where a crew that was brought up begins."""

    standing: Standing
    is_exact: bool
    """The run goes on from its checkpoint as if nothing had been done since."""
    version: int | None = None
    """Of the weights that the collector had there; None for none."""
    weights: Any = None
    """Reference to them."""


class Crew:
    """The services of a run, and the calls of them that are under way.

    Args:
        host: where they run.
        runtime: time limits.
        is_lockstep: the run is to be resumed exactly.
    """

    def __init__(self, host: Host, runtime: RuntimeConfig, *, is_lockstep: bool) -> None:
        self.host = host
        self.limits = runtime
        self.is_lockstep = is_lockstep
        self.calls = Calls(host)
        self._incarnation = -1
        self._has_stepped = False  # the learner that there is now

    def bring_up(self) -> StartPoint:
        """Starts what a run needs where checkpoint and replay stand.

        Raises:
            ServiceLost: the run directory's replay or checkpoint does not fit, or one died.
        """
        host = self.host
        self._start_learner()
        target = version = rollout = weights = None
        if self.is_lockstep:
            parts = host.call("learner", "resume_point", num_results=4)
            target, version, rollout, weights = parts
            target, version = self.answer("learner", target), self.answer("learner", version)
        host.start("replay", target)
        counts: ReplayCounts = self.ask("replay", "counts")
        is_exact = target is not None and self.ask("replay", "is_rewound")
        self._incarnation = next_incarnation(counts, target, is_exact=is_exact)
        host.start("collector", self._incarnation)
        standing = Standing(counts=counts, gradient_steps=self.ask("learner", "gradient_step"))
        if not is_exact:
            return StartPoint(standing=standing, is_exact=False)
        self.ask("collector", "restore", rollout)
        return StartPoint(standing=standing, is_exact=True, version=version, weights=weights)

    def replace(self, service: str) -> None:
        """Starts the next life of a service; of an evaluator not before its next evaluation."""
        self.host.end([service])
        match service:
            case "collector":
                self._incarnation += 1
                self.host.start("collector", self._incarnation)
            case "learner":
                self._start_learner()
            case "replay" | "exchange":
                self.host.start(service)
            case _:
                pass

    def fence(self) -> Standing:
        """Has the replay refuse what older collectors may still send; tells who stands where.

        Raises:
            ServiceLost: one of them died meanwhile.
        """
        self.ask("replay", "fence", self._incarnation)
        counts = self.ask("replay", "counts")
        return Standing(counts=counts, gradient_steps=self.ask("learner", "gradient_step"))

    def dead(self) -> set[str]:
        """Returns what the run needs and is gone, once each had time to answer."""
        return {name for name in REQUIRED if not self._is_alive(name, self.limits.call_timeout_s)}

    def whose_silence(self, service: str, verb: str) -> str:
        """Whose fault it is that a call is not answered: many wait for something of the replay.

        Whatever is asked of the learner waits behind steps that wait for their batches.
        """
        needs_replay = service == "learner" or verb in ("insert", "flush")
        is_replay = needs_replay and not self._is_alive("replay", _PROBE_S)
        return "replay" if is_replay else service

    def limit_s(self, service: str) -> float:
        """How long the service may take for a call."""
        if service.startswith("evaluator"):
            return self.limits.evaluation_timeout_s
        return (
            self.limits.collect_timeout_s if service == "collector" else self.limits.call_timeout_s
        )

    def silence_s(self, service: str) -> float:
        """How long it may be silent: as long as its work may take, or a first step is under way."""
        limit_s = self.limit_s(service)
        if service != "learner" or self._has_stepped or not self.calls.in_flight(service, "train"):
            return limit_s
        return max(limit_s, self.limits.first_step_timeout_s)

    def stepped(self) -> None:
        """Notes that the learner took a gradient step."""
        if not self._has_stepped:
            self._has_stepped = True
            self.calls.heard("learner")  # what waited behind it begins now

    def ask(self, service: str, verb: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Calls a service and waits for its answer.

        Raises:
            BadInput: it refused what the user gave.
            ServiceLost: it could not start, died, failed or kept silent; says why.
            Raised: it met a bug of ours.
        """
        return self.answer(service, self.host.call(service, verb, *arguments), timeout_s)

    def answer(self, service: str, reference: Any, timeout_s: float | None = None) -> Any:
        """Waits for what was asked of a service; raises as `ask`."""
        try:
            return self.host.get(reference, timeout_s or self.limits.call_timeout_s)
        except Raised as error:
            if isinstance(error.cause, BadInput):
                raise error.cause from error
            if not isinstance(error.cause, (DreamerError, OSError)):
                raise
            did = "could not start" if isinstance(error, NotStarted) else "failed"
            raise ServiceLost(f"The {service} {did}: {error.cause}") from error
        except CallFailed as error:
            raise ServiceLost(f"The {service} did not answer: {error}") from error

    def close_replay(self) -> None:
        """Has the replay bring all that it has to the disk; a dead one is no matter."""
        try:
            if self.host.has("replay"):
                self.ask("replay", "close", timeout_s=_CLOSE_S)
        except (ServiceLost, Raised) as error:
            logger.warning("The replay is not closed; its next start will mend it: %s", error)

    def close(self, evaluators: Sequence[str]) -> None:
        """Ends all of them, and these evaluators."""
        self.host.end((*REQUIRED, EXCHANGE, *evaluators))

    def _start_learner(self) -> None:
        self._has_stepped = False
        self.host.start("learner")

    def _is_alive(self, service: str, timeout_s: float) -> bool:
        if not self.host.has(service):
            return False
        try:
            self.host.get(self.host.call(service, READY), timeout_s)
        except (Lost, Silent):
            return False
        return True
