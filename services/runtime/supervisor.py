"""The supervisor: the one loop that connects the services of a run.

                +------------- weights (WeightsSnapshot) <-------------+
                v                                                      |
           Collector --[EpisodeChunk]--> ReplayServer --[Batch]--> Learner
                Evaluator <-- weights           all --[Report]--> observe

All waiting and all failure handling are here, in one thread. Whatever dies or hangs takes one path,
`Recovery`: let the calls in flight settle, replace it, ask the others where they stand, go on. In
lockstep all are replaced, and the run goes on from its checkpoint as if nothing had been done
since.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from dreamer_core.report.report import Report
from dreamer_core.run.progress import Observer, Pulse
from dreamer_core.run.schedule import Schedule
from dreamer_core.waiting import Patience
from services.runtime.calls import Call, CallFailed, Lost, Raised, Silent
from services.runtime.crew import EXCHANGE, Crew, ServiceLost
from services.runtime.evaluations import Evaluations
from services.runtime.faults import Faults, must_replace
from services.runtime.guests import Guests
from services.runtime.moves import Moves
from services.runtime.recovery import Recovery
from services.runtime.saves import Saves
from services.runtime.traffic import Traffic

logger = logging.getLogger(__name__)

_POLL_S = 0.2  # longest wait before signals and clocks are looked at again
_FLUSH_S = 5.0  # a replay silent for longer is replaced when a stop was asked for
_LAST_TRIES = 3  # to publish the final weights
_STOP_S = 10.0  # what is under way gets so long once a stop was asked for


class Supervisor:
    """Runs the services until the run is done or asked to stop.

    Args:
        crew: the services, none of them started yet.
        schedule: who may work next; is set to where the services stand.
        saves: when checkpoints are due.
        evaluations: when evaluators play.
        faults: counts what failed.
        observe: is shown every report, in this thread.
        frames_per_policy_step: env frames of each.

    Raises:
        ServiceLost: the run directory's replay or checkpoint does not fit the config.
    """

    def __init__(
        self,
        *,
        crew: Crew,
        schedule: Schedule,
        saves: Saves,
        evaluations: Evaluations,
        faults: Faults,
        observe: Observer,
        frames_per_policy_step: int = 1,
    ) -> None:
        self.schedule = schedule
        self.crew, self._calls = crew, crew.calls
        self._saves, self._evaluations = saves, evaluations
        self._observe = observe
        crew.host.start(EXCHANGE)
        start = crew.bring_up()
        counts = start.standing.counts
        self._pulse = Pulse(schedule, counts, frames_per_policy_step, crew.host.now_s)
        self._traffic = Traffic(crew, schedule, self._pulse, self._report)
        self._guests = Guests(crew, self._report)
        self._recovery = Recovery(
            crew=crew,
            schedule=schedule,
            traffic=self._traffic,
            pulse=self._pulse,
            saves=saves,
            faults=faults,
            report=self._report,
        )
        self._moves = Moves(
            crew=crew,
            traffic=self._traffic,
            saves=saves,
            evaluations=evaluations,
            recovery=self._recovery,
        )
        self._recovery.begin(start)
        evaluations.begin(counts.policy_steps, schedule.gradient_steps)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains until the configured number of policy steps or a stop, and saves.

        Calls in flight are let finish at the end, so that everything collected is stored.

        Raises:
            NonFiniteLoss: the learner met one; nothing was saved after it.
            ServiceLost: a service cannot be kept alive, or no checkpoint can be written.
            Raised: a service met a bug of ours.
        """
        while True:
            while not self.schedule.is_done and not should_stop():
                self._issue()
                self._wait()
                if self._pulse.is_due():
                    self._beat()
                    self._guests.take()
            self._evaluations.drop()
            self._guests.take()
            self._settle(_STOP_S if should_stop() else math.inf)
            self._guests.take()
            self._beat()
            if self._save(is_stopping=should_stop()):
                return

    def evaluate(self, should_stop: Callable[[], bool]) -> None:
        """Evaluates the weights of a run that is done, unless they were or evaluation is off.

        To be called once they are saved: a stop or a loss gives the evaluation up.
        """
        schedule = self.schedule
        is_wanted = self._evaluations.clock.is_last_wanted(schedule.gradient_steps)
        if not (schedule.is_done and is_wanted):
            return
        try:
            for _ in range(_LAST_TRIES):  # a service may be lost over it
                if schedule.published_version != schedule.gradient_steps:
                    self._traffic.publish()
                    self._settle()
            self._evaluate()
            patience = Patience(self.crew.host.now_s())
            while self._calls and not should_stop():
                self._wait()
                if self._pulse.is_due():
                    self._beat()
                    self._guests.take()
                if patience.has_run_out(now_s := self.crew.host.now_s()):
                    waited_s = now_s - patience.began_s
                    logger.info("The last evaluation takes %.0f s; a stop ends it", waited_s)
            self._evaluations.drop()
        except ServiceLost as error:
            logger.warning("The last evaluation was given up: %s", error)

    def close(self) -> None:
        """Closes the replay and ends the services; a dead one is no matter."""
        self.crew.close_replay()
        self.crew.close(self._evaluations.names)

    # Issuing

    def _issue(self) -> None:
        """Issues every call that the schedule allows; one at a time in lockstep."""
        is_held = self._moves.make()
        if self._saves.is_due() and self._traffic.is_free():
            position, saved = self._saves.begin(self.schedule, self._traffic.weights)
            self._calls.add("replay", "flush", position, lambda _: None)
            self._calls.add("learner", "save", saved, lambda told: self._saved(position, told))
        self._traffic.issue(is_held=is_held)
        has_weights = self._traffic.weights is not None
        has_weights = has_weights and self.schedule.published_version is not None  # of this learner
        if has_weights and self._evaluations.clock.is_due(self.schedule.policy_steps):
            self._evaluate(max_starts=1)

    def _evaluate(self, max_starts: int | None = None) -> None:
        self._evaluations.start(
            self._traffic.weights,
            policy_steps=self.schedule.policy_steps,
            of_policy_steps=self._traffic.weights_policy_step,
            version=self.schedule.published_version,
            on_done=self._report,
            max_starts=max_starts,
        )

    # Saving at the end

    def _save(self, *, is_stopping: bool) -> bool:
        """Writes a checkpoint and waits for it; False if a service was lost over it.

        Raises:
            ServiceLost: it cannot be written.
        """
        is_collecting = self._calls.in_flight("collector", "collect")
        if self.crew.is_lockstep and (self._traffic.is_storing or is_collecting):
            logger.warning("What was being collected is given up; the newest checkpoint counts")
            return True  # one of now could not be resumed exactly
        position, saved = self._saves.begin(self.schedule, self._traffic.weights)
        call = Call("learner", "save", saved, lambda _: None)
        limit_s = self.crew.limits.call_timeout_s
        try:
            self.crew.host.get(position, _FLUSH_S if is_stopping else limit_s)
            self._saved(position, self.crew.host.get(saved, limit_s))
        except (Lost, Silent) as error:
            if isinstance(error, Silent):
                self.crew.host.kill(self.crew.whose_silence("learner", "save"))
            self._recovery.after(call, error)
            return False
        except CallFailed as error:
            if isinstance(error, Raised):
                must_replace(call, error)  # or ends the run with a better reason
            raise ServiceLost(f"The last checkpoint was not written: {error}") from error
        return True

    def _saved(self, position: object, report: Report) -> None:
        self._saves.saved(position, report)
        self._report(report)

    # Waiting

    def _wait(self) -> None:
        """Takes what finished, and ends what has been silent for too long."""
        call = self._calls.wait(_POLL_S)
        if call is not None:
            if call.verb == "train":
                self._traffic.step_s = call.waited_s
            try:
                call.on_done(self.crew.host.get(call.reference, self.crew.limits.call_timeout_s))
            except CallFailed as error:
                self._recovery.after(call, error)
        self._end_what_hangs()

    def _settle(self, limit_s: float = math.inf) -> None:
        """Waits until no call is in flight, or for so long; then what collects is given up."""
        give_up_s = self.crew.host.now_s() + limit_s
        while self._calls and self.crew.host.now_s() < give_up_s:
            self._wait()
        if self._calls:
            services = ", ".join(sorted(self._calls.services()))
            logger.warning("Not waited for any longer: %s", services)

    def _end_what_hangs(self) -> None:
        """Replaces a service that has been silent for longer than its work may take."""
        for call, silent_s in self._calls.silent():
            limit_s = self.crew.silence_s(call.service)
            if silent_s > limit_s:
                service = self.crew.whose_silence(call.service, call.verb)
                self.crew.host.kill(service)
                error = Silent(
                    f"the {service} was silent for {silent_s:.0f} s, but {limit_s:.0f} s is the "
                    "limit for its work (--runtime.*-timeout-s); it was ended"
                )
                self._recovery.after(call, error)
                return

    # Reporting

    def _beat(self) -> None:
        for report in self._pulse.reports(checkpoint_age_s=self._saves.age_s):
            self._report(report)

    def _report(self, report: Report) -> None:
        self._observe(report, self.schedule.policy_steps, self.schedule.gradient_steps)
