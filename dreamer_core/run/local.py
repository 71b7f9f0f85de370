"""DreamerV2 in one process: start reading here.

    prefill the replay with random play
    repeat: collect a few policy steps, insert them, take the gradient steps that fell due,
            hand the new weights to the policy

The services do the same through Ray (services/supervisor.py); with --lockstep they take the same
steps in the same order and so compute the same losses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dreamer_core.agent.device import choose_execution
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec, make_env
from dreamer_core.replay.replay import ReplayCounts, open_replay
from dreamer_core.replay.rewind import RewindTarget
from dreamer_core.report.pictures import plot_learning_curve
from dreamer_core.report.report import RunLog
from dreamer_core.run.rollout import Rollout, env_seed
from dreamer_core.run.schedule import CollectOrder, Schedule
from dreamer_core.run.trainer import Trainer, require_place
from dreamer_core.storage.run_directory import RunPaths, open_run
from dreamer_core.types import EnvSpec, Report, WeightsSnapshot

logger = logging.getLogger(__name__)

Observer = Callable[[Report, int, int], None]
"""Is shown each report with the policy steps and gradient steps of the run."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left behind."""

    run_dir: Path
    policy_steps: int
    gradient_steps: int
    is_finished: bool
    """False if it was stopped early; starting it again resumes."""
    pictures: tuple[Path, ...]


class LocalRun:
    """Environment, policy, replay and trainer in one process.

    Args:
        config: of the run.
        paths: of its directory, claimed by the caller.
        spec: of the environment.
        observe: is shown every report.
    """

    def __init__(self, config: Config, paths: RunPaths, spec: EnvSpec, observe: Observer) -> None:
        self._config = config
        self._paths = paths
        self._observe = observe
        self._trainer = Trainer(config, spec, paths.checkpoints)
        point = self._trainer.resume_point
        target = None if point is None else point.target
        self._replay = open_replay(
            paths.replay, config.replay, spec, is_rewindable=True, target=target
        )
        counts, is_exact = self._replay.counts(), self._replay.is_rewound
        incarnation = next_incarnation(counts, target, is_exact=is_exact)
        self._env = make_env(config.env, env_seed(config.seed, incarnation))
        self._rollout = Rollout(self._env, config, incarnation)
        self._weights: WeightsSnapshot | None = None
        self._needs_resume_point = not is_exact
        self._sample_wait_s = 0.0
        self._insert_wait_s = 0.0
        self._saved_s = time.monotonic()
        self.schedule = Schedule(
            config.schedule,
            steps=config.steps,
            policy_steps=counts.policy_steps,
            gradient_steps=self._trainer.gradient_step,
            is_lockstep=True,
        )
        self._pulse = Pulse(self.schedule, counts, config.env.action_repeat)
        if point is not None and is_exact:
            self._rollout.restore(point.rollout)
            if point.weights is not None:
                self._weights = point.weights
                self.schedule.published_version = point.weights.version

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains until the configured number of policy steps, or until asked to stop."""
        schedule = self.schedule
        if self._needs_resume_point and self._rollout.state() is not None:
            self.save()
        while not schedule.is_done and not should_stop():
            if schedule.should_publish():
                self._weights = self._trainer.snapshot()
                schedule.published_version = self._weights.version
            order = schedule.next_collect()
            if order is not None:
                self._collect(order)
            if self._pulse.is_due():
                self._beat()
            while schedule.may_train() and not should_stop():
                self._train()
            if time.monotonic() - self._saved_s > self._config.checkpoint.interval_s:
                self.save()
        self._beat()

    def save(self) -> None:
        """Writes a checkpoint."""
        position = self._replay.flush()
        saved = self._trainer.save(
            policy_step=self.schedule.policy_steps,
            position=position,
            rollout=self._rollout.state(),
            weights=self._weights,
        )
        self._replay.release(position)
        self._report(saved)
        self._saved_s = time.monotonic()

    def draw_open_loop(self) -> tuple[Path, ...]:
        """Writes the open-loop picture, once there is something to draw."""
        if self.schedule.gradient_steps == 0:
            return ()
        batch = self._replay.sample(self.schedule.gradient_steps, self._config.seed)
        path = self._paths.open_loop_picture
        return (path,) if self._trainer.save_open_loop(batch, path) else ()

    def close(self) -> None:
        """Closes environment and replay."""
        try:
            self._env.close()
        finally:
            self._replay.close()

    def _collect(self, order: CollectOrder) -> None:
        schedule = self.schedule
        schedule.policy_steps_issued += order.num_policy_steps
        collected = self._rollout.run(
            order.num_policy_steps,
            policy_step=schedule.policy_steps,
            weights=None if order.is_random else self._weights,
        )
        started_s = time.perf_counter()
        for chunk in collected.chunks:
            self._replay.insert(chunk)
        self._insert_wait_s += time.perf_counter() - started_s
        counts = self._replay.counts()
        schedule.policy_steps = counts.policy_steps
        waited = {"dreamer_insert_wait_seconds_total": self._insert_wait_s}
        self._pulse.counts, self._pulse.collector_values = counts, waited
        if collected.episodes:
            self._report(Report(service="collector", values=waited, episodes=collected.episodes))

    def _train(self) -> None:
        schedule = self.schedule
        step = schedule.gradient_steps
        schedule.gradient_steps_issued += 1
        started_s = time.perf_counter()
        batch = self._replay.sample(step, self._config.seed)
        self._sample_wait_s += time.perf_counter() - started_s
        report = self._trainer.train(
            batch, gradient_step=step, policy_step=schedule.policy_steps
        )  # fmt: skip
        schedule.gradient_steps += 1
        if report is not None:
            waited = {"dreamer_sample_wait_seconds_total": self._sample_wait_s}
            self._report(replace(report, values={**report.values, **waited}))

    def _beat(self) -> None:
        for report in self._pulse.reports(checkpoint_age_s=time.monotonic() - self._saved_s):
            self._report(report)

    def _report(self, report: Report) -> None:
        self._observe(report, self.schedule.policy_steps, self.schedule.gradient_steps)


class Pulse:
    """Reports where a run stands every few seconds, however fast it goes: logs stay small.

    Args:
        schedule: whose counts are watched.
        counts: of the replay, to be renewed by whoever inserts.
        action_repeat: env frames per policy step.
    """

    interval_s = 2.0

    def __init__(self, schedule: Schedule, counts: ReplayCounts, action_repeat: int) -> None:
        self._schedule = schedule
        self._action_repeat = action_repeat
        self._started_s = time.monotonic()
        self._policy_steps = schedule.policy_steps
        self.counts = counts
        """Newest counts of the replay."""
        self.collector_values: Mapping[str, float] = {}
        """Newest values of the collector."""

    def forget_speed(self) -> None:
        """Begins to measure anew, after a run was taken back to a checkpoint."""
        self._started_s, self._policy_steps = time.monotonic(), self._schedule.policy_steps

    def is_due(self) -> bool:
        """Whether the interval has passed."""
        return time.monotonic() - self._started_s >= self.interval_s

    def reports(self, *, checkpoint_age_s: float) -> list[Report]:
        """Returns speed since the last call, ratio, policy age, and what replay and collector say.

        Args:
            checkpoint_age_s: seconds since the newest checkpoint.
        """
        schedule, now_s = self._schedule, time.monotonic()
        speed = (schedule.policy_steps - self._policy_steps) / (now_s - self._started_s)
        self._started_s, self._policy_steps = now_s, schedule.policy_steps
        values = {
            "dreamer_policy_steps_per_second": speed,
            "dreamer_checkpoint_age_seconds": checkpoint_age_s,
            "dreamer_wanted_policy_steps_per_gradient_step": float(schedule.wanted_ratio),
        }
        ratio = schedule.ratio()
        if ratio is not None:
            values["dreamer_policy_steps_per_gradient_step"] = ratio
        if schedule.published_version is not None:
            lag = schedule.gradient_steps - schedule.published_version
            values["dreamer_policy_lag_gradient_steps"] = float(lag)
        reports = [
            Report(service="supervisor", values=values),
            replay_report(self.counts, self._action_repeat),
        ]
        if self.collector_values:
            reports.append(Report(service="collector", values=self.collector_values))
        return reports


def replay_report(counts: ReplayCounts, action_repeat: int) -> Report:
    """What the replay holds and has acknowledged, as a report."""
    return Report(
        service="replay",
        values={
            "dreamer_policy_steps_total": counts.policy_steps,
            "dreamer_env_frames_total": counts.policy_steps * action_repeat,
            "dreamer_episodes_total": counts.episodes,
            "dreamer_replay_short_episodes": counts.short_episodes,
            "dreamer_replay_steps": counts.stored_steps,
            "dreamer_replay_episodes": counts.stored_episodes,
            "dreamer_replay_bytes": counts.stored_bytes,
            "dreamer_fenced_inserts_total": counts.fenced_inserts,
            "dreamer_repaired_records_total": counts.repaired_records,
        },
    )


def next_incarnation(
    counts: ReplayCounts, target: RewindTarget | None, *, is_exact: bool = False
) -> int:
    """Number of the collector's next life, from 0.

    Args:
        counts: of the replay.
        target: of the checkpoint, if that can be resumed exactly.
        is_exact: the run goes on from there, and the collector with its old number; else the number
            is above all that replay and checkpoint have seen.
    """
    seen = -1 if counts.last_incarnation is None else counts.last_incarnation
    if target is None:
        return seen + 1
    return target.incarnation if is_exact else max(seen, target.incarnation) + 1


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
        ValueError: the environment or the checkpoint does not fit.
        OSError: checkpoints or other files cannot be written.
        NonFiniteLoss: see DreamerAgent.train_step.
    """
    spec = environment_spec(config.env)
    choose_execution(config.learner)  # a missing one is told before anything is written
    require_place(config, spec)
    with (
        open_run(run_dir, config) as paths,
        RunLog(run_dir, action_repeat=config.env.action_repeat) as log,
    ):

        def observed(report: Report, policy_step: int, gradient_step: int) -> None:
            log.write(report, policy_step=policy_step, gradient_step=gradient_step)
            if observe is not None:
                observe(report, policy_step, gradient_step)

        run = LocalRun(config, paths, spec, observed)
        try:
            run.run(should_stop)
            run.save()
            pictures = run.draw_open_loop()
        finally:
            run.close()
        return RunResult(
            run_dir=run_dir,
            policy_steps=run.schedule.policy_steps,
            gradient_steps=run.schedule.gradient_steps,
            is_finished=run.schedule.is_done,
            pictures=(plot_learning_curve(run_dir), *pictures),
        )
