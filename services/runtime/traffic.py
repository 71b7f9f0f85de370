"""What is on its way between the services: chunks, batches, weights.

References are passed on as arguments, so that arrays never come through here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dreamer_core.replay.replay import ReplayCounts
from dreamer_core.report.report import Report
from dreamer_core.run.progress import Pulse
from dreamer_core.run.schedule import CollectOrder, Schedule
from services.runtime.crew import EXCHANGE, REQUIRED, Crew

_RETRY_S = 5.0  # between two tries to store a chunk that a full disk refused
_SLOW_STEP_S = 2.0  # a learner this slow needs no queue, and a stop would wait for its end


class Traffic:
    """Issues the calls of training, and takes what they give.

    Args:
        crew: whose services are called.
        schedule: is told what is under way and what is done.
        pulse: is told what replay and collector say of themselves.
        report: takes the reports of the services.
    """

    def __init__(
        self, crew: Crew, schedule: Schedule, pulse: Pulse, report: Callable[[Report], None]
    ) -> None:
        self._crew = crew
        self._schedule = schedule
        self._pulse = pulse
        self._report = report
        self._storing: tuple[Any, Report] | None = None
        self._retry_at_s = -math.inf
        self.step_s = math.inf  # until a gradient step was measured
        """How long the newest gradient step took."""
        self.weights: Any = None
        """Reference to the newest that were published; None before the first."""
        self.weights_policy_step = 0
        """Policy steps of the run when they were made."""

    @property
    def is_storing(self) -> bool:
        """Whether chunks are not acknowledged yet."""
        return self._storing is not None

    @property
    def is_idle(self) -> bool:
        """Whether no call that training depends on is under way, and all chunks are stored."""
        return not (self.is_storing or self._crew.calls.services() & set(REQUIRED))

    def is_free(self) -> bool:
        """Whether a call that training depends on may be issued: in lockstep one at a time."""
        return self.is_idle or not self._crew.is_lockstep

    def issue(self, *, is_held: bool) -> None:
        """Issues every call of training that the schedule allows.

        Args:
            is_held: nothing more is to be collected or trained.
        """
        while not is_held and self._may_train():
            self._train()
        is_publishing = self._busy("learner", "snapshot")
        if self._schedule.should_publish() and not is_publishing and self.is_free():
            self.publish()
        if self._storing is not None:
            if not self._busy("replay", "insert") and self._now_s() > self._retry_at_s:
                self._insert(*self._storing)
        elif not (is_held or self._busy("collector", "collect")) and self.is_free():
            order = self._schedule.next_collect()
            if order is not None and (order.is_random or self.weights is not None):
                self._collect(order)

    def publish(self) -> None:
        """Has the learner make the weights that later calls hand to collector and evaluators."""
        policy_step = self._schedule.policy_steps
        weights, version = self._crew.host.call("learner", "snapshot", num_results=2)

        def on_done(done_version: int) -> None:
            self.use(weights, done_version, policy_step)
            self.post()

        self._crew.calls.add("learner", "snapshot", version, on_done)

    def use(self, weights: Any, version: int | None, policy_step: int) -> None:
        """Takes over published weights, or None of them."""
        self.weights, self.weights_policy_step = weights, policy_step
        self._schedule.published(version)

    def post(self) -> None:
        """Shows the newest weights to evaluators of other jobs."""
        if self.weights is not None:
            self._crew.host.call(EXCHANGE, "post", [self.weights], self.weights_policy_step)

    def retry_later(self) -> None:
        """The chunks that could not be stored are tried again after a while."""
        self._retry_at_s = self._now_s() + _RETRY_S

    def give_up_storing(self) -> bool:
        """Forgets the chunks that are not acknowledged; whether there were any."""
        was_storing, self._storing = self.is_storing, None
        return was_storing

    def _may_train(self) -> bool:
        is_one_by_one = self._crew.is_lockstep or self.step_s > _SLOW_STEP_S
        limit = 1 if is_one_by_one else self._crew.limits.learner_calls_in_flight
        has_place = self._crew.calls.in_flight("learner", "train") < limit
        return has_place and self._schedule.may_train() and self.is_free()

    def _train(self) -> None:
        step = self._schedule.training()
        batch = self._crew.host.call("replay", "sample", step)
        done = self._crew.host.call("learner", "train", batch, step, self._schedule.policy_steps)

        def on_done(report: Report | None) -> None:
            self._schedule.trained()
            self._crew.stepped()
            if report is not None:
                self._report(report)

        self._crew.calls.add("learner", "train", done, on_done)

    def _collect(self, order: CollectOrder) -> None:
        self._schedule.collecting(order)
        chunks, done = self._crew.host.call(
            "collector", "collect", self.weights, order, self._schedule.policy_steps, num_results=2
        )

        def on_done(collected: Report) -> None:
            self._insert(chunks, collected)

        self._crew.calls.add("collector", "collect", done, on_done)

    def _insert(self, chunks: Any, collected: Report) -> None:
        """Hands chunks on, once they exist and there is a replay.

        A service takes its calls in order, so one whose argument is still being made would hold up
        the sampling of every later batch.
        """
        self._storing = (chunks, collected)
        if not self._crew.host.has("replay"):  # its successor takes the count
            return
        acknowledged = self._crew.host.call("replay", "insert", chunks)

        def on_done(counts: ReplayCounts) -> None:
            self._storing = None
            self._schedule.stored(counts.policy_steps)
            self._pulse.counts, self._pulse.collector_values = counts, collected.values
            if collected.episodes:
                self._report(collected)

        self._crew.calls.add("replay", "insert", acknowledged, on_done)

    def _busy(self, service: str, verb: str) -> bool:
        return self._crew.calls.in_flight(service, verb) > 0

    def _now_s(self) -> float:
        return self._crew.host.now_s()
