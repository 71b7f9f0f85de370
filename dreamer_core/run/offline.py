"""DreamerV2 from a fixed replay, in one process: the gradient steps of a run, without its play.

    repeat: draw a batch, take a gradient step on it; now and then evaluate, save

Nothing is collected, so the run's clock is the gradient step. Where policy steps or env frames are
asked for (x axes, `evaluation.interval_frames`, the schedules of rho and eta, the counts of
checkpoints), they are those that an ordinary run takes for as many gradient steps:

    policy steps = gradient steps * schedule.policy_steps_per_gradient_step
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dreamer_core.config import Config
from dreamer_core.config_offline import OfflineConfig
from dreamer_core.errors import BadInput
from dreamer_core.replay.fixed import FixedReplay
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.report.report import Report
from dreamer_core.run.front import RunResult, open_front, ready
from dreamer_core.run.own_run import OwnRun
from dreamer_core.run.progress import Observer, Pulse, Speed
from dreamer_core.run.recorded import Actions, Recorded, recorded
from dreamer_core.run.trainer import Trainer
from dreamer_core.storage.run_directory import RunPaths, read_config

logger = logging.getLogger(__name__)


class OfflineSchedule:
    """Where a run stands that only takes gradient steps.

    Args:
        config: of the run; its `steps` are the policy steps that stand for its gradient steps.
        trainer: takes them.
    """

    def __init__(self, config: Config, trainer: Trainer) -> None:
        self._ratio = config.schedule.policy_steps_per_gradient_step
        self._steps = config.steps
        self._trainer = trainer

    @property
    def gradient_steps(self) -> int:
        """Taken by now."""
        return self._trainer.gradient_step

    @property
    def policy_steps(self) -> int:
        """That stand for them."""
        return self.gradient_steps * self._ratio

    @property
    def is_done(self) -> bool:
        """Whether all gradient steps are taken."""
        return self.policy_steps >= self._steps


class OfflineRun(OwnRun[OfflineSchedule]):
    """Trainer and evaluations over a replay that stays as it is.

    Args:
        config: of the run.
        paths: of its directory, claimed by the caller.
        data: what it is trained on.
        observe: is shown every report.
    """

    def __init__(self, config: Config, paths: RunPaths, data: Recorded, observe: Observer) -> None:
        trainer = Trainer(config, data.spec, paths.checkpoints)
        schedule = OfflineSchedule(config, trainer)
        if not data.has_env:
            evaluation = dataclasses.replace(config.evaluation, interval_frames=None)
            config = dataclasses.replace(config, evaluation=evaluation)
        log, sample = paths.root / METRICS_FILE, data.replay.sample
        super().__init__(config, data.spec, log, trainer, schedule, sample=sample, observe=observe)
        self._beaten_s = time.monotonic()
        self._speed = Speed(self._beaten_s, self.schedule.gradient_steps)
        self._report(Report(service="supervisor", is_restart=True))
        self._report(_replay_report(data.replay))

    def _take_turn(self, _should_stop: Callable[[], bool], /) -> None:
        report = self._train_step(self.schedule.gradient_steps)
        if report is not None:
            self._report(report)
        self._beat_if_due()

    def _write_checkpoint(self) -> Report:
        return self._trainer.save(policy_step=self.schedule.policy_steps)

    def close(self) -> None:
        """Nothing: the replay is only read."""

    def _beat_if_due(self) -> None:
        if time.monotonic() - self._beaten_s >= Pulse.interval_s:
            self._beat()

    def _beat(self) -> None:
        self._beaten_s = time.monotonic()
        speed = self._speed.at(self._beaten_s, self.schedule.gradient_steps)
        values = {
            "dreamer_checkpoint_age_seconds": self._checkpoint_age_s,
            "dreamer_gradient_steps_per_second": speed,
        }
        self._report(Report(service="supervisor", values=values))


def train_offline(
    config: Config,
    run_dir: Path,
    replays: Sequence[Path],
    *,
    actions: Actions | None = None,
    observe: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Trains from a fixed replay, from the start or from where the directory's last run stopped.

    Args:
        config: what to train; its `steps` are the policy steps that stand for its gradient steps.
        run_dir: everything is written here.
        replays: run directories, or replay directories, as `recorded` takes them.
        actions: as in `recorded`.
        observe: is shown every report, besides the logs.
        should_stop: asked between steps; then a checkpoint is written and the call returns.

    Raises:
        BadInput: the replays cannot be used, or are not those that the run began with.
        Failed: a replay was cut while it was read.
        RunDirectoryError, CheckpointCorrupt, OutOfMemory, StorageFailed, NonFiniteLoss: as in
            `train_local`.
    """
    run_dir = run_dir.absolute()  # an environment may change the working directory
    begun = _begun(run_dir)
    data = recorded(config, replays, rows=begun.rows or None, actions=actions)
    if begun.is_on and data.replay.fingerprint != begun.data:
        raise BadInput(
            f"{run_dir} was begun with other rows ({begun.data}, of {', '.join(begun.replays)}) "
            f"than {', '.join(map(str, replays))} hold ({data.replay.fingerprint}). Name the same "
            "replays in the same order, or begin a new run with --run-dir"
        )
    config = ready(dataclasses.replace(config, offline=data.config), data.spec, run_dir)
    with open_front(config, data.spec, run_dir, observe) as front:
        front.tell_news()
        return front.trained(OfflineRun(config, front.paths, data, front.observe), should_stop)


def _begun(run_dir: Path) -> OfflineConfig:
    """Returns what the run in a directory is trained on; nothing where there is none yet."""
    if not RunPaths(run_dir).config.is_file():
        return OfflineConfig()
    return read_config(run_dir).offline


def _replay_report(replay: FixedReplay) -> Report:
    return Report(
        service="replay",
        values={
            "dreamer_replay_steps": replay.num_rows,
            "dreamer_replay_episodes": replay.num_episodes,
            "dreamer_replay_short_episodes": replay.num_short_episodes,
            "dreamer_replay_bytes": replay.num_bytes,
        },
    )
