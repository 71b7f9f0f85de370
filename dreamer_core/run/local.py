"""DreamerV2 in one process: start reading here.

    prefill the replay with random play
    repeat: collect a few policy steps, insert them, take the gradient steps that fell due,
            hand the new weights to the policy

The services do the same through Ray (services/runtime/supervisor.py); with --lockstep they take
the same steps in the same order and so compute the same losses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import torch

from dreamer_core.agent.captured_policy import policy_of
from dreamer_core.config import Config
from dreamer_core.envs.base import close_or_warn
from dreamer_core.envs.process import has_own_dtype
from dreamer_core.envs.suites import make_env
from dreamer_core.replay.replay import open_replay
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.report.report import Report
from dreamer_core.run.front import RunResult, check, open_front
from dreamer_core.run.own_run import OwnRun
from dreamer_core.run.progress import Observer, Pulse, next_incarnation
from dreamer_core.run.rollout import Collected, Rollout
from dreamer_core.run.schedule import CollectOrder, Schedule
from dreamer_core.run.trainer import Trainer
from dreamer_core.seeds import env_seed
from dreamer_core.storage.run_directory import RunPaths
from dreamer_core.types import EnvSpec, WeightsSnapshot

logger = logging.getLogger(__name__)


class LocalRun(OwnRun[Schedule]):
    """Environment, policy, replay and trainer in one process.

    Args:
        config: of the run.
        paths: of its directory, claimed by the caller.
        spec: of the environment.
        observe: is shown every report.
    """

    def __init__(self, config: Config, paths: RunPaths, spec: EnvSpec, observe: Observer) -> None:
        trainer = Trainer(config, spec, paths.checkpoints)
        point = trainer.resume_point
        target = None if point is None else point.target
        self._replay = open_replay(
            paths.replay, config.replay, spec, is_rewindable=True, target=target
        )
        counts, is_exact = self._replay.counts(), self._replay.is_rewound
        incarnation = next_incarnation(counts, target, is_exact=is_exact)
        self._env = make_env(config.env, env_seed(config.seed, incarnation), spec)
        policy = policy_of(config, spec, trainer.agent.device)
        self._rollout = Rollout(self._env, config, incarnation, policy)
        self._weights: WeightsSnapshot | None = None
        self._needs_resume_point = not is_exact
        self._insert_wait_s = 0.0
        is_together = works_together(trainer.agent.device) and not has_own_dtype()
        self._learner = ThreadPoolExecutor(1) if is_together else None
        schedule = Schedule(
            config.schedule,
            steps=config.steps,
            policy_steps=counts.policy_steps,
            gradient_steps=trainer.gradient_step,
            is_lockstep=self._learner is None,
        )
        self._pulse = Pulse(schedule, counts, spec.frames_per_policy_step)
        log, sample = paths.root / METRICS_FILE, self._replay.sample
        super().__init__(config, spec, log, trainer, schedule, sample=sample, observe=observe)
        if point is not None and is_exact:
            self._rollout.restore(point.rollout)
            if point.weights is not None:
                self._weights = point.weights
                schedule.published(point.weights.version)
        self._report(Report(service="supervisor", is_restart=True))

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains until the configured number of policy steps, or until asked to stop."""
        if self._needs_resume_point and self._rollout.state() is not None:
            self.save()
        super().run(should_stop)

    def _write_checkpoint(self) -> Report:
        position = self._replay.flush()
        saved = self._trainer.save(
            policy_step=self.schedule.policy_steps,
            position=position,
            rollout=self._rollout.state(),
            weights=self._weights,
        )
        self._replay.release(position)
        return saved

    def close(self) -> None:
        """Closes environment and replay."""
        if self._learner is not None:
            self._learner.shutdown()
        try:
            close_or_warn(self._env)
        finally:
            self._replay.close()

    def _take_turn(self, should_stop: Callable[[], bool], /) -> None:
        """Collects, then trains, or both at once."""
        if self._learner is not None:
            self._work_together(self._learner, should_stop)
            return
        self._publish_if_due()
        order = self.schedule.next_collect()
        if order is not None:
            self._store(self._collect(order))
        self._beat_if_due()
        self._train(should_stop)

    def _work_together(self, learner: Executor, should_stop: Callable[[], bool]) -> None:
        """Collects while the card trains on what was collected before.

        A turn that collects is ended once it was begun, so that neither batches nor the weights
        that play depend on when a run was stopped.
        """
        order = self.schedule.next_collect()
        if order is not None:
            self._publish_if_due()
        training = learner.submit(self._train, should_stop if order is None else lambda: False)
        try:
            collected = None if order is None else self._collect(order)
        finally:
            training.result()
        if collected is not None:
            self._store(collected)
        self._beat_if_due()

    def _publish_if_due(self) -> None:
        if self.schedule.should_publish():
            self._weights = self._trainer.snapshot()
            self.schedule.published(self._weights.version)

    def _collect(self, order: CollectOrder) -> Collected:
        schedule = self.schedule
        schedule.collecting(order)
        return self._rollout.run(
            order.num_policy_steps,
            policy_step=schedule.policy_steps,
            weights=None if order.is_random else self._weights,
        )

    def _store(self, collected: Collected) -> None:
        schedule = self.schedule
        started_s = time.perf_counter()
        for chunk in collected.chunks:
            self._replay.insert(chunk)
        self._insert_wait_s += time.perf_counter() - started_s
        counts = self._replay.counts()
        schedule.stored(counts.policy_steps)
        waited = {"dreamer_insert_wait_seconds_total": self._insert_wait_s}
        values = waited | self._rollout.seconds()
        self._pulse.counts, self._pulse.collector_values = counts, values
        if collected.episodes:
            self._report(Report(service="collector", values=values, episodes=collected.episodes))

    def _train(self, should_stop: Callable[[], bool]) -> None:
        """Takes the gradient steps that fell due."""
        schedule = self.schedule
        while schedule.may_train() and not should_stop():
            report = self._train_step(schedule.training())
            schedule.trained()
            if report is not None:
                self._report(report)
            self._beat_if_due()

    def _beat_if_due(self) -> None:
        if self._pulse.is_due():
            self._beat()

    def _beat(self) -> None:
        for report in self._pulse.reports(checkpoint_age_s=self._checkpoint_age_s):
            self._report(report)


def works_together(device: torch.device) -> bool:
    """Whether a run collects while this device trains; on a CPU they would share the cores."""
    return device.type == "cuda"


def train_local(
    config: Config,
    run_dir: Path,
    *,
    observe: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Trains in this process, from the start or from where the run directory's last run stopped.

    Args:
        config: what to train.
        run_dir: everything is written here.
        observe: is shown every report, besides the logs.
        should_stop: asked between steps; then a checkpoint is written and the call returns.

    Raises:
        RunDirectoryError: see `open_run`.
        BadInput: see `check`, Trainer and Replay.
        EnvironmentCrashed: the environment failed while it was played.
        CheckpointCorrupt, OutOfMemory: see Trainer.
        ReplayInUse: see Replay.
        StorageFailed: replay or checkpoints cannot be read or written.
        Failed: the place of the checkpoints does not answer, or a disk is full.
        NonFiniteLoss: see DreamerAgent.train_step.
    """
    run_dir = run_dir.absolute()  # an environment may change the working directory
    config, spec = check(config, run_dir)
    with open_front(config, spec, run_dir, observe) as front:
        front.tell_news()
        run = LocalRun(config, front.paths, spec, front.observe)
        return front.trained(run, should_stop)
