"""The supervisor: the one place where services become Ray actors and are connected.

                +------------- weights (WeightsSnapshot) <-------------+
                v                                                      |
           Collector --[EpisodeChunk]--> ReplayServer --[Batch]--> Learner
                Evaluator <-- weights           all --[Report]--> observe

It holds object references and passes them on as arguments, so arrays go from process to process
through the object store and never through here. All waiting and all failure handling sit in one
single-threaded loop. Whatever dies or hangs takes one path: let the calls in flight settle,
replace it, ask the others where they stand, go on. In lockstep all are replaced, and the run goes
on from its checkpoint as if nothing had been done since.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from dreamer_core.agent.agent import NonFiniteLoss
from dreamer_core.config import Config
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.replay.replay import ReplayCounts
from dreamer_core.run.local import Observer, Pulse, next_incarnation
from dreamer_core.run.schedule import CollectOrder, Schedule
from dreamer_core.storage.run_directory import RunPaths
from dreamer_core.types import EnvSpec, Report
from services.cluster.ray_errors import LOST, failed_to_start, reason
from services.runtime.calls import Calls
from services.runtime.config import ServiceConfig
from services.runtime.crew import EXCHANGE, Actors, ServiceLost

logger = logging.getLogger(__name__)

_POLL_S = 0.2  # longest wait before signals and clocks are looked at again
_RETRY_S = 5.0  # between two tries to store a chunk that a full disk refused
_SAVE_RETRY_S = 30.0  # between two tries to write a checkpoint
_FLUSH_S = 5.0  # a replay silent for longer is replaced when a stop was asked for
_STOP_S = 10.0  # what is under way gets so long once a stop was asked for
_SLOW_STEP_S = 2.0  # a learner this slow needs no queue, and a stop would wait for its end
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SERVICE = {"insert": "replay", "flush": "replay", "publish": "learner", "save": "learner"}
"""Who does the calls of a kind, where the names differ."""


class Supervisor:
    """Runs the services until the run is done or asked to stop.

    Args:
        config: of the run.
        services: of the runtime.
        paths: of the run directory, claimed by the caller.
        spec: of the environment.
        observe: is shown every report, in this thread.

    Raises:
        ServiceLost: the run directory's replay or checkpoint does not fit the config.
    """

    def __init__(
        self,
        config: Config,
        services: ServiceConfig,
        paths: RunPaths,
        spec: EnvSpec,
        observe: Observer,
    ) -> None:
        self._config = config
        self._services = services
        self._paths = paths
        self._observe = observe
        self._is_lockstep = services.lockstep
        self._actors = Actors(
            config, services.runtime, paths, spec, is_lockstep=services.lockstep
        )  # fmt: skip
        self._evaluators = tuple(f"evaluator-{i}" for i in range(services.evaluator.count))
        self._beside = {*self._evaluators, EXCHANGE}
        """What training does not wait for."""
        self._calls = Calls()
        self._storing: tuple[Any, Report] | None = None  # chunks that are not acknowledged yet
        self._retry_at_s = 0.0
        self._step_s = math.inf  # one call at a time until a step was measured
        self._restarts = Counter[str]()
        self._errors = Counter[str]()
        self._fruitless_restarts = 0
        self._progress_at_restart = (-1, -1)
        self._weights: Any = None
        self._weights_policy_step = 0
        self._actors.start_exchange()
        self._saved_s = time.monotonic()
        self._save_tried_s = -math.inf
        self._incarnation = -1
        self._has_resume_point = False  # without one, a kill in lockstep could not be undone
        self.schedule = Schedule(config.schedule, steps=config.steps, is_lockstep=services.lockstep)
        counts = self._bring_up()
        self._evaluated_at = counts.policy_steps
        self._pulse = Pulse(self.schedule, counts, config.env.action_repeat)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains until the configured number of policy steps or a stop, and saves.

        Calls in flight are let finish at the end, so that everything collected is stored.

        Raises:
            NonFiniteLoss: the learner met one; nothing was saved after it.
            ServiceLost: a service cannot be kept alive, or no checkpoint can be written.
        """
        while True:
            while not self.schedule.is_done and not should_stop():
                self._issue()
                self._wait(_POLL_S)
                self._end_what_hangs()
                if self._pulse.is_due():
                    self._beat()
                    self._take_reports()
            self._drop_evaluations()
            self._take_reports()
            self._settle(_STOP_S if should_stop() else math.inf)
            self._beat()
            if self._save(is_stopping=should_stop()):
                return

    def evaluate(self, should_stop: Callable[[], bool]) -> None:
        """Evaluates the weights of a run that is done, unless they were or evaluation is off.

        To be called once they are saved: a stop or a loss gives the evaluation up.
        """
        is_new = self.schedule.policy_steps > self._evaluated_at
        is_wanted = self._services.evaluator.interval_policy_steps is not None
        if not (self.schedule.is_done and is_new and is_wanted):
            return
        try:
            self._publish()
            self._settle()
            self._evaluate(max_starts=len(self._evaluators))
            while self._calls and not should_stop():
                self._wait(_POLL_S)
                self._end_what_hangs()
                if self._pulse.is_due():
                    self._beat()
            self._drop_evaluations()
        except ServiceLost as error:
            logger.warning("The last evaluation was given up: %s", error)

    def draw_open_loop(self) -> bool:
        """Writes the open-loop picture; False while there is too little to draw."""
        if self.schedule.gradient_steps == 0:
            return False
        batch = self._actors["replay"].sample.remote(self.schedule.gradient_steps)
        path = self._paths.open_loop_picture.absolute()
        try:
            return self._actors.ask("learner", "save_open_loop", batch, path)
        except ServiceLost as error:
            logger.warning("No open-loop picture was drawn: %s", error)
            return False

    def close(self) -> None:
        """Closes the replay and ends the actors; a dead one is no matter."""
        try:
            if "replay" in self._actors:
                self._actors.ask("replay", "close", timeout_s=_STOP_S)
        except ServiceLost as error:
            logger.warning("The replay is not closed; its next start will mend it: %s", error)
        self._actors.close()

    # --- Issuing ------------------------------------------------------------------------------

    def _issue(self) -> None:
        """Issues every call that the schedule allows; one at a time in lockstep."""
        if self._is_save_due() and self._is_free():
            self._save_beside()
        while self._may_train():
            self._train()
        if self.schedule.should_publish() and not self._in_flight("publish") and self._is_free():
            self._publish()
        if self._storing is not None:
            if not self._in_flight("insert") and time.monotonic() > self._retry_at_s:
                self._insert(*self._storing)
        elif not self._in_flight("collector") and self._is_free():
            order = self.schedule.next_collect()
            if order is not None and (order.is_random or self._weights is not None):
                self._collect(order)
        self._evaluate_if_due()

    def _may_train(self) -> bool:
        is_one_by_one = self._is_lockstep or self._step_s > _SLOW_STEP_S
        limit = 1 if is_one_by_one else self._services.runtime.learner_calls_in_flight
        has_place = self._in_flight("learner") < limit
        return has_place and self.schedule.may_train() and self._is_free()

    def _is_save_due(self) -> bool:
        interval_s, now_s = self._config.checkpoint.interval_s, time.monotonic()
        is_retry_due = now_s - self._save_tried_s > min(interval_s, _SAVE_RETRY_S)
        needs_point = self._is_lockstep and not self._has_resume_point
        is_due = needs_point or now_s - self._saved_s > interval_s
        return is_due and is_retry_due and not self._in_flight("save")

    def _is_free(self) -> bool:
        """Whether a call that training depends on may be issued now."""
        is_busy = self._storing is not None or bool(self._calls.kinds() - self._beside)
        return not (self._is_lockstep and is_busy)

    def _in_flight(self, kind: str) -> int:
        return self._calls.in_flight(kind)

    def _train(self) -> None:
        schedule = self.schedule
        step = schedule.gradient_steps_issued
        schedule.gradient_steps_issued += 1
        batch = self._actors["replay"].sample.remote(step)
        done = self._actors["learner"].train.remote(batch, step, schedule.policy_steps)

        def on_done(report: Report | None) -> None:
            schedule.gradient_steps += 1
            if report is not None:
                self._report(report)

        self._calls.add("learner", done, on_done)

    def _publish(self) -> None:
        policy_step = self.schedule.policy_steps
        weights, version = self._actors["learner"].snapshot.options(num_returns=2).remote()

        def on_done(done_version: int) -> None:
            self._weights, self._weights_policy_step = weights, policy_step
            self.schedule.published_version = done_version
            self._post()

        self._calls.add("publish", version, on_done)

    def _collect(self, order: CollectOrder) -> None:
        schedule = self.schedule
        schedule.policy_steps_issued += order.num_policy_steps
        collect = self._actors["collector"].collect.options(num_returns=2)
        chunks, done = collect.remote(self._weights, order, schedule.policy_steps)
        self._calls.add("collector", done, lambda report: self._insert(chunks, report))

    def _insert(self, chunks: Any, collected: Report) -> None:
        """Hands chunks on, once they exist and there is a replay.

        An actor takes its calls in order, so one whose argument is still being made would hold up
        the sampling of every later batch.
        """
        self._storing = (chunks, collected)
        if "replay" not in self._actors:  # it was just ended, and its successor takes the count
            return
        acknowledged = self._actors["replay"].insert.remote(chunks)

        def on_done(counts: ReplayCounts) -> None:
            self._storing = None
            self.schedule.policy_steps = counts.policy_steps
            self._pulse.counts, self._pulse.collector_values = counts, collected.values
            if collected.episodes:
                self._report(collected)

        self._calls.add("insert", acknowledged, on_done)

    def _post(self) -> None:
        """Shows the newest weights to evaluators of other jobs."""
        if self._weights is not None:
            self._actors[EXCHANGE].post.remote([self._weights], self._weights_policy_step)

    def _take_reports(self) -> None:
        """Fetches what evaluators of other jobs have left."""

        def on_done(reports: list[Report]) -> None:
            for report in reports:
                self._report(report)

        if not self._in_flight(EXCHANGE):
            self._calls.add(EXCHANGE, self._actors[EXCHANGE].take.remote(), on_done)

    def _evaluate_if_due(self) -> None:
        interval = self._services.evaluator.interval_policy_steps
        is_due = interval and self.schedule.policy_steps - self._evaluated_at >= interval
        if is_due and self._weights is not None:
            self._evaluate(max_starts=1)  # many at once would take the processors from training

    def _evaluate(self, max_starts: int) -> None:
        """Has idle evaluators, of which so many may be new, play with the newest weights."""
        config = self._services.evaluator
        for index, name in enumerate(self._evaluators):
            if self._in_flight(name):
                continue
            if name not in self._actors:
                if max_starts == 0:
                    continue
                max_starts -= 1
                self._actors.start_evaluator(name, index)
            self._evaluated_at = self.schedule.policy_steps
            done = self._actors[name].evaluate.remote(
                self._weights, config.episodes, config.mode, self._weights_policy_step
            )
            self._calls.add(name, done, self._report)

    def _drop_evaluations(self) -> None:
        """Gives up the evaluations under way: nothing waits for the end of their episodes."""
        for name in self._evaluators:
            if self._in_flight(name):
                self._calls.drop(name)
                self._actors.kill(name)

    # --- Saving -------------------------------------------------------------------------------

    def _save_beside(self) -> None:
        """Lets the learner write a checkpoint between two gradient steps."""
        self._save_tried_s = time.monotonic()
        position, saved = self._start_saving()

        def on_done(report: Report) -> None:
            self._note_saved(position, report)

        self._calls.add("flush", position, lambda _: None)
        self._calls.add("save", saved, on_done)

    def _save(self, *, is_stopping: bool) -> bool:
        """Writes a checkpoint and waits for it; False if a service was lost over it.

        Raises:
            ServiceLost: it cannot be written.
        """
        if self._is_lockstep and (self._storing is not None or self._in_flight("collector")):
            logger.warning("What was being collected is given up; the newest checkpoint counts")
            return True  # one of now could not be resumed exactly
        position, saved = self._start_saving()
        try:
            self._actors.get(position, _FLUSH_S if is_stopping else None)
            self._note_saved(position, self._actors.get(saved))
        except LOST as error:
            self._recover("save", error)
            return False
        except GetTimeoutError as error:
            self._actors.kill(self._silent_service("save"))
            self._recover("save", error)
            return False
        except RayTaskError as error:
            self._must_replace("save", error)  # or ends the run with a better reason
            raise ServiceLost(f"The last checkpoint was not written: {reason(error)}") from error
        except RayError as error:
            raise ServiceLost(f"The last checkpoint was not written: {reason(error)}") from error
        return True

    def _start_saving(self) -> tuple[Any, Any]:
        """Asks for a checkpoint; returns references to the replay's position and the report."""
        position = self._actors["replay"].flush.remote()
        others = ()
        if self._is_lockstep:
            others = (self._actors["collector"].state.remote(), self._weights)
        save = self._actors["learner"].save
        return position, save.remote(self.schedule.policy_steps, position, *others)

    def _note_saved(self, position: Any, report: Report) -> None:
        self._saved_s = time.monotonic()
        if self._is_lockstep:
            self._has_resume_point = True
            self._actors["replay"].release.remote(position)
        self._report(report)

    # --- Waiting ------------------------------------------------------------------------------

    def _wait(self, timeout_s: float) -> None:
        """Takes what finished, after at most `timeout_s`."""
        call = self._calls.wait(timeout_s)
        if call is None:
            return
        if call.kind == "learner":
            self._step_s = call.waited_s
        try:
            call.on_done(self._actors.get(call.reference))
        except LOST as error:
            self._recover(call.kind, error)
        except RayTaskError as error:
            if self._must_replace(call.kind, error):
                self._actors.kill(_service(call.kind))
                self._recover(call.kind, error)
        except RayError as error:
            if call.kind not in self._beside:
                raise ServiceLost(f"The {call.kind} failed: {reason(error)}") from error
            self._recover(call.kind, error)

    def _settle(self, limit_s: float = math.inf) -> None:
        """Waits until no call is in flight, or for so long; then what collects is given up."""
        give_up_s = time.monotonic() + limit_s
        while self._calls and time.monotonic() < give_up_s:
            self._wait(_POLL_S)
            self._end_what_hangs()
        if self._calls:
            logger.warning("Not waited for any longer: %s", ", ".join(sorted(self._calls.kinds())))

    def _end_what_hangs(self) -> None:
        """Replaces a service that has been silent for longer than its work may take."""
        for kind in self._calls.kinds():
            limit_s, silent_s = self._limit_s(kind), self._calls.silent_s(kind)
            if silent_s > limit_s:
                service = self._silent_service(kind)
                self._actors.kill(service)
                error = GetTimeoutError(
                    f"the {service} was silent for {silent_s:.0f} s, but {limit_s:.0f} s is the "
                    "limit for its work (--runtime.*-timeout-s); it was ended"
                )
                self._recover(kind, error)
                return

    def _limit_s(self, kind: str) -> float:
        runtime = self._services.runtime
        limits = {
            "collector": runtime.collect_timeout_s,
            **dict.fromkeys(self._evaluators, runtime.evaluation_timeout_s),
        }
        return limits.get(kind, runtime.call_timeout_s)

    def _silent_service(self, kind: str) -> str:
        """Whose fault the silence is: a gradient step also waits for the replay's batch."""
        needs_replay = kind in ("learner", "insert", "flush", "save")
        is_replay = needs_replay and not self._actors.is_responsive("replay")
        return "replay" if is_replay else _service(kind)

    # --- Failure ------------------------------------------------------------------------------

    def _must_replace(self, kind: str, error: RayTaskError) -> bool:
        """Deals with an exception that a service raised.

        Returns:
            Whether the service has to be replaced; else it can go on.

        Raises:
            NonFiniteLoss: the learner met one.
            ServiceLost: a replacement won't mend it.
        """
        cause: BaseException = error.cause
        if isinstance(cause, NonFiniteLoss):
            raise cause
        has_no_room = isinstance(cause, OSError) and cause.errno in _NO_ROOM
        is_saving = kind in ("save", "flush") and isinstance(cause, OSError)
        if is_saving or (kind == "insert" and has_no_room):
            self._save_tried_s = time.monotonic()
            self._retry_at_s = self._save_tried_s + _RETRY_S
            self._note_error(_service(kind), f"{cause}. It is tried again")
            return False
        if kind in self._beside or isinstance(cause, EnvironmentCrashed | RayError):
            return True
        raise ServiceLost(
            f"The work of the {_service(kind)} failed: {reason(error)}. Mend it and start the same "
            "command again: the run resumes from its directory"
        ) from error

    def _recover(self, kind: str, error: RayError) -> None:
        """Replaces whatever is dead and takes the counts from those who know them."""
        self._note_error(_service(kind), f"A service was lost: {reason(error)}")
        if kind in self._beside:
            self._calls.drop(kind)
            self._replace(kind)  # nothing depends on it
            return
        is_chunk_lost = kind in ("collector", "insert")
        while True:
            self._count_fruitless(error)
            try:
                if self._is_lockstep:
                    self._start_over(_service(kind))
                else:
                    is_chunk_lost |= self._finish_calls()
                    self._replace_dead(is_chunk_lost=is_chunk_lost)
            except ServiceLost as lost:
                cause = lost.__cause__
                if not isinstance(cause, (*LOST, GetTimeoutError)) or failed_to_start(cause):
                    raise
                error = cause  # one more died meanwhile
                self._note_error(_service(kind), f"A service was lost: {reason(error)}")
            else:
                return

    def _start_over(self, service: str) -> None:
        """Takes the whole run back to its checkpoint."""
        dead = self._actors.dead() or {service}
        self._calls.drop(*(self._calls.kinds() - self._beside))
        self._storing = None
        self._actors.kill_required()
        self._pulse.counts = self._bring_up()
        self._pulse.forget_speed()
        for name in sorted(dead):
            self._note_restart(name)

    def _bring_up(self) -> ReplayCounts:
        """Starts the services where checkpoint and replay stand, and sets the clock to that."""
        actors, schedule = self._actors, self.schedule
        actors.start_learner()
        target = version = rollout = weights = None
        if self._is_lockstep:
            parts = actors["learner"].resume_point.options(num_returns=4).remote()
            target, version, rollout, weights = parts
            target, version = actors.answer("learner", target), actors.answer("learner", version)
        actors.start_replay(target)
        counts: ReplayCounts = actors.ask("replay", "counts")
        is_exact: bool = target is not None and actors.ask("replay", "is_rewound")
        self._has_resume_point = is_exact
        self._incarnation = next_incarnation(counts, target, is_exact=is_exact)
        actors.start_collector(self._incarnation)
        self._weights = schedule.published_version = None
        if is_exact:
            actors.ask("collector", "restore", rollout)
            schedule.published_version = version
            self._weights = None if version is None else weights
            self._weights_policy_step = counts.policy_steps
        self._set_clock(counts)
        return counts

    def _set_clock(self, counts: ReplayCounts) -> None:
        gradient_steps: int = self._actors.ask("learner", "gradient_step")
        schedule = self.schedule
        schedule.policy_steps = schedule.policy_steps_issued = counts.policy_steps
        schedule.gradient_steps = schedule.gradient_steps_issued = gradient_steps

    def _finish_calls(self) -> bool:
        """Takes what still succeeds of the calls in flight; tells whether a chunk was lost."""
        is_chunk_lost = False
        while (call := self._calls.pop_oldest(but=self._beside)) is not None:
            try:
                call.on_done(self._actors.get(call.reference, self._limit_s(call.kind)))
            except (*LOST, GetTimeoutError):
                is_chunk_lost |= call.kind == "collector"
            except RayTaskError as error:
                if self._must_replace(call.kind, error):
                    self._actors.kill(_service(call.kind))
        is_chunk_lost |= self._storing is not None
        self._storing = None
        return is_chunk_lost

    def _replace_dead(self, *, is_chunk_lost: bool) -> None:
        dead = self._actors.dead()
        if is_chunk_lost:
            dead.add("collector")  # going on would leave a gap in its episode
        for service in sorted(dead):
            self._replace(service)
        self._actors.ask("replay", "fence", self._incarnation)
        counts = self._pulse.counts = self._actors.ask("replay", "counts")
        self._set_clock(counts)

    def _replace(self, service: str) -> None:
        self._actors.kill(service)
        match service:
            case "replay":
                self._actors.start_replay()
            case "learner":
                self._actors.start_learner()
                self.schedule.published_version = None
            case "collector":
                self._incarnation += 1
                self._actors.start_collector(self._incarnation)
            case "exchange":
                self._actors.start_exchange()
                self._post()
            case _:
                pass  # the next evaluation starts it
        self._note_restart(service)

    def _count_fruitless(self, error: RayError) -> None:
        progress = (self.schedule.policy_steps, self.schedule.gradient_steps)
        is_fruitless = progress == self._progress_at_restart
        self._progress_at_restart = progress
        self._fruitless_restarts = self._fruitless_restarts + 1 if is_fruitless else 0
        if self._fruitless_restarts >= self._services.runtime.max_fruitless_restarts:
            raise ServiceLost(
                f"A service died {self._fruitless_restarts + 1} times at policy step {progress[0]} "
                f"without progress; the last reason was: {reason(error)}. Mend it and start "
                "the same command again: the run resumes from its directory"
            ) from error

    # --- Reporting ----------------------------------------------------------------------------

    def _note_restart(self, service: str) -> None:
        logger.info("Replaced the %s", service)
        kind = service.partition("-")[0]
        self._restarts[kind] += 1
        self._report_of(kind, {"dreamer_restarts_total": self._restarts[kind]})

    def _note_error(self, service: str, text: str) -> None:
        logger.error("%s: %s", service, text)
        kind = service.partition("-")[0]
        self._errors[kind] += 1
        values = {
            "dreamer_errors_total": self._errors[kind],
            "dreamer_last_error_timestamp_seconds": time.time(),
        }
        self._report_of(kind, values)

    def _report_of(self, service: str, values: dict[str, float]) -> None:
        self._report(Report(service="supervisor", values=values, labels={"service": service}))

    def _beat(self) -> None:
        for report in self._pulse.reports(checkpoint_age_s=time.monotonic() - self._saved_s):
            self._report(report)

    def _report(self, report: Report) -> None:
        self._observe(report, self.schedule.policy_steps, self.schedule.gradient_steps)


def _service(kind: str) -> str:
    return _SERVICE.get(kind, kind)
