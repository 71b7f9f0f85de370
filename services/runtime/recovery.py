"""What happens when a service dies, hangs or fails: one path for all.

any service        the error is counted, logged and reported
an evaluator       its evaluation is given up; the next one starts another
the exchange       is replaced, and gets the newest weights
what a run needs   calls in flight are let finish, as far as they can; whoever is dead is
replaced, and the collector too where chunks of its were lost, since going on
would leave a gap in its episode; the replay refuses what older collectors
may still send; the schedule is set to where replay and learner stand
... in lockstep    all three are replaced, from the checkpoint on
a node is drained  what it has of these is replaced likewise, once nothing is lost with it
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from dreamer_core.report.report import Report
from dreamer_core.run.progress import Pulse
from dreamer_core.run.schedule import Schedule
from services.runtime.calls import Call, CallFailed, Lost, Raised, Silent
from services.runtime.crew import EXCHANGE, REQUIRED, Crew, ServiceLost, Standing, StartPoint
from services.runtime.faults import Faults, must_replace
from services.runtime.saves import Saves
from services.runtime.traffic import Traffic

logger = logging.getLogger(__name__)


class Recovery:
    """Brings a run back to where it can go on.

    Args:
        crew: whose services fail.
        schedule: is set to where they stand.
        traffic: what was on its way.
        pulse: is told what the replay counts.
        saves: is told whether there is a checkpoint to go back to.
        faults: counts.
        report: takes what is counted.
    """

    def __init__(
        self,
        *,
        crew: Crew,
        schedule: Schedule,
        traffic: Traffic,
        pulse: Pulse,
        saves: Saves,
        faults: Faults,
        report: Callable[[Report], None],
    ) -> None:
        self._crew = crew
        self._schedule = schedule
        self._traffic = traffic
        self._pulse = pulse
        self._saves = saves
        self._faults = faults
        self._report = report

    def begin(self, start: StartPoint) -> None:
        """Takes up the run where its services begin."""
        self._saves.began(is_exact=start.is_exact)
        self._stand(start.standing)
        self._report(Report(service="supervisor", is_restart=True))
        weights = None if start.version is None else start.weights
        self._traffic.use(weights, start.version, start.standing.counts.policy_steps)

    def after(self, call: Call, error: CallFailed) -> None:
        """Recovers from a call that gave no result.

        Raises:
            ServiceLost: a replacement would not mend it, or too many did not.
            Raised: it is a bug of ours.
        """
        if isinstance(error, Raised):
            if not self._must_replace(call, error):
                return
        elif not isinstance(error, (Lost, Silent)) and call.service in REQUIRED:
            raise ServiceLost(f"The {call.service} failed: {error}") from error
        self._note(call.service, error)
        if call.service in REQUIRED:
            self._faults.count_attempt(self._schedule, error)
            self._go_on(call.service, is_chunk_lost=call.verb in ("collect", "insert"))
            return
        self._crew.calls.drop([call.service])
        self._crew.replace(call.service)
        if call.service == EXCHANGE:
            self._traffic.post()
        self._report(self._faults.replaced(call.service))

    def move(self, services: Sequence[str]) -> None:
        """Starts services elsewhere, while nothing is under way that they would take along.

        Raises:
            ServiceLost, Raised: as `after`.
        """
        names = " and ".join(services)
        logger.info("The node of the %s is about to end: what it did is saved, it moves", names)
        if "replay" in services:
            self._crew.close_replay()  # its files are opened by another machine now
        self._crew.host.end(services)
        self._go_on(services[0], is_chunk_lost=False)

    def _must_replace(self, call: Call, error: Raised) -> bool:
        """Ends a service that raised, where that is wanted; else its work is tried again later."""
        if must_replace(call, error):
            self._crew.host.end([call.service])
            return True
        self._saves.tried()
        self._traffic.retry_later()
        self._report(self._faults.failed(call.service, f"{error.cause}. It is tried again"))
        return False

    def _go_on(self, service: str, *, is_chunk_lost: bool) -> None:
        """Replaces whatever is dead, this service for one, until all that a run needs answers."""
        while True:
            try:
                if self._crew.is_lockstep:
                    self._start_over(service)
                else:
                    is_chunk_lost |= self._finish_calls()
                    self._replace_dead(is_chunk_lost=is_chunk_lost)
            except ServiceLost as lost:
                cause = lost.__cause__
                if not isinstance(cause, (Lost, Silent)):
                    raise
                self._note(service, cause)  # one more died meanwhile
                self._faults.count_attempt(self._schedule, cause)
            else:
                return

    def _start_over(self, service: str) -> None:
        """Takes the whole run back to its checkpoint."""
        dead = self._crew.dead() or {service}
        self._crew.calls.drop(REQUIRED)
        self._traffic.give_up_storing()
        for name in dead:
            self._crew.host.kill(name)
        self._crew.host.end(REQUIRED)
        self.begin(self._crew.bring_up())
        for name in sorted(dead):
            self._report(self._faults.replaced(name))

    def _finish_calls(self) -> bool:
        """Takes what still succeeds of the calls in flight; tells whether a chunk was lost."""
        is_chunk_lost = False
        while (call := self._crew.calls.pop_oldest(REQUIRED)) is not None:
            try:
                call.on_done(self._outcome(call))
            except (Lost, Silent):
                is_chunk_lost |= call.verb == "collect"
            except Raised as error:
                self._must_replace(call, error)
        return self._traffic.give_up_storing() or is_chunk_lost

    def _outcome(self, call: Call) -> Any:
        """Waits for a call; ends what keeps it waiting for too long, the replay before its own.

        Raises:
            CallFailed: it has none.
        """
        host, limit_s = self._crew.host, self._crew.limit_s(call.service)
        try:
            return host.get(call.reference, limit_s)
        except Silent:
            service = self._crew.whose_silence(call.service, call.verb)
            host.kill(service)
            if service == call.service:
                raise
        try:  # what waited for the replay fails now; what hangs itself does not
            return host.get(call.reference, limit_s)
        except Silent:
            host.kill(call.service)
            raise

    def _replace_dead(self, *, is_chunk_lost: bool) -> None:
        dead = self._crew.dead()
        if is_chunk_lost:
            dead.add("collector")
        for service in sorted(dead):
            self._crew.replace(service)
            if service == "learner":
                self._schedule.published(None)
            if service != "collector":  # a save needs both others
                self._saves.lost()
            self._report(self._faults.replaced(service))
        self._stand(self._crew.fence())

    def _stand(self, standing: Standing) -> None:
        """Sets the clock to where replay and learner stand, and measures speeds from there."""
        self._pulse.counts = standing.counts
        self._schedule.resume(
            policy_steps=standing.counts.policy_steps, gradient_steps=standing.gradient_steps
        )
        self._pulse.forget_speed()

    def _note(self, service: str, error: CallFailed) -> None:
        self._report(self._faults.failed(service, f"A service was lost: {error}"))
