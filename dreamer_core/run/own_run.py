"""A run in one process: turns of play and training, between them evaluations and checkpoints."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from dreamer_core.agent.captured_policy import policy_of
from dreamer_core.config import Config
from dreamer_core.report.report import Report
from dreamer_core.run.progress import Observer
from dreamer_core.run.scoring import OwnEvaluations
from dreamer_core.run.trainer import Trainer
from dreamer_core.types import Batch, EnvSpec


class AnySchedule(Protocol):
    """Where a run stands."""

    @property
    def policy_steps(self) -> int:
        """So many have been taken."""
        ...

    @property
    def gradient_steps(self) -> int:
        """So many have been taken."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether all are taken."""
        ...


_Schedule = TypeVar("_Schedule", bound=AnySchedule)


class OwnRun(ABC, Generic[_Schedule]):
    """Trains in this process until it is done or stopped; what a turn is, its subclass knows.

    Args:
        config: of the run.
        spec: of its environment.
        log: its metrics file.
        trainer: takes its gradient steps.
        schedule: where it stands.
        sample: draws the batch of a gradient step with a seed.
        observe: is shown every report.
    """

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        log: Path,
        trainer: Trainer,
        schedule: _Schedule,
        *,
        sample: Callable[[int, int], Batch],
        observe: Observer,
    ) -> None:
        self._config, self._trainer, self.schedule = config, trainer, schedule
        self._sample, self._observe = sample, observe
        self._sample_wait_s = 0.0
        self._saved_s = time.monotonic()
        self._evaluations = OwnEvaluations(
            config,
            spec,
            log,
            (schedule.policy_steps, schedule.gradient_steps),
            make_policy=partial(policy_of, config, spec, trainer.agent.device),
            snapshot=trainer.snapshot,
            beat=self._beat_if_due,
            report=self._report,
        )

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains to the end, or until asked to stop."""
        while not self.schedule.is_done and not should_stop():
            self._take_turn(should_stop)
            self._evaluations.play_if_due(self.schedule.policy_steps, should_stop)
            if self._checkpoint_age_s > self._config.checkpoint.interval_s:
                self.save()
        self._beat()

    def save(self) -> None:
        """Writes a checkpoint."""
        self._report(self._write_checkpoint())
        self._saved_s = time.monotonic()

    def evaluate_last(self, should_stop: Callable[[], bool]) -> None:
        """Evaluates the weights of a run that is done, unless they were or evaluation is off."""
        if self.schedule.is_done:
            self._evaluations.play_last(self.schedule.policy_steps, should_stop)

    def draw_open_loop(self) -> Mapping[str, bytes]:
        """Draws the open-loop picture; nothing while there is too little to draw."""
        gradient_step = self._trainer.gradient_step
        if gradient_step == 0:
            return {}
        return self._trainer.draw_open_loop(self._sample(gradient_step, self._config.seed))

    @abstractmethod
    def close(self) -> None:
        """Closes what it opened."""

    @abstractmethod
    def _take_turn(self, should_stop: Callable[[], bool], /) -> None:
        """Takes some steps."""

    @abstractmethod
    def _write_checkpoint(self) -> Report:
        """Writes one, and returns the trainer's report of it."""

    @abstractmethod
    def _beat_if_due(self) -> None:
        """Reports where the run stands every few seconds."""

    @abstractmethod
    def _beat(self) -> None:
        """Reports where the run stands."""

    @property
    def _checkpoint_age_s(self) -> float:
        return time.monotonic() - self._saved_s

    def _train_step(self, gradient_step: int) -> Report | None:
        """Draws a batch and takes a gradient step on it; result and errors as `Trainer.train`."""
        started_s = time.perf_counter()
        batch = self._sample(gradient_step, self._config.seed)
        self._sample_wait_s += time.perf_counter() - started_s
        policy_step = self.schedule.policy_steps
        report = self._trainer.train(batch, gradient_step=gradient_step, policy_step=policy_step)
        if report is None:
            return None
        waited = {"dreamer_sample_wait_seconds_total": self._sample_wait_s}
        return replace(report, values={**report.values, **waited})

    def _report(self, report: Report) -> None:
        self._observe(report, self.schedule.policy_steps, self.schedule.gradient_steps)
