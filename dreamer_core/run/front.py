"""The front door of a run: what `dreamer local` and `dreamer train` do alike around the training.

config, spec = check(config, run_dir)       before anything is written
with open_front(config, spec, run_dir, observe) as front:
    ...                                     train; hand every report to front.observe
    front.draw(...)                         the open-loop picture
    return front.result(schedule)           draw the curve, say what was left behind

A run in one process hands all of that over: `return front.trained(run, should_stop)`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dreamer_core.agent.device import choose_execution, require_device
from dreamer_core.config import Config, EnvConfig
from dreamer_core.envs.games import random_return
from dreamer_core.errors import BadInput, DreamerError
from dreamer_core.files import write_whole
from dreamer_core.report.about import about
from dreamer_core.report.curves import plot_learning_curve
from dreamer_core.report.log import RunLog
from dreamer_core.report.report import Report
from dreamer_core.report.tracker import Tracker, require_tracker
from dreamer_core.run.findings import findings
from dreamer_core.run.own_run import AnySchedule, OwnRun
from dreamer_core.run.progress import Observer
from dreamer_core.run.restored import require_beginning
from dreamer_core.run.settled import settled
from dreamer_core.run.trainer import OPEN_LOOP, require_place
from dreamer_core.run.trial import try_environment
from dreamer_core.storage.run_directory import RunPaths, open_run
from dreamer_core.types import EnvSpec

logger = logging.getLogger(__name__)

Where = Literal["here", "beside", "elsewhere"]
"""A run is trained by this process, by another of this machine, or on another machine."""
_STEPS_TRIED = 8  # policy steps before a run directory is made; `dreamer check-env` takes more


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left behind."""

    run_dir: Path
    policy_steps: int
    gradient_steps: int
    is_finished: bool
    """False if it was stopped early; starting it again resumes."""
    pictures: tuple[Path, ...]


def check(config: Config, run_dir: Path, *, trained: Where = "here") -> tuple[Config, EnvSpec]:
    """Tries what the config names, before anything is written.

    Returns the config as it is trained (settled.py), and the sizes of the environment.

    Args:
        config: of the run.
        run_dir: of the run, made or not.
        trained: where; which card there is, only a process of its machine knows, and what it can
            do, only the one that opens it.

    Raises:
        BadInput: the environment, the device, the place of the checkpoints or the networks to begin
            with are not to be had.
        EnvironmentCrashed: the environment failed in its first steps.
        Failed: the place of the checkpoints does not answer, or its disk is full.
    """
    spec = tried(config.env)
    return ready(config, spec, run_dir, trained=trained), spec


def ready(config: Config, spec: EnvSpec, run_dir: Path, *, trained: Where = "here") -> Config:
    """Tries all but the environment, whose sizes are known; see `check`."""
    config = settled(config, spec)
    require_tracker(config.tracker)
    if trained == "here":
        choose_execution(config.learner)
    elif trained == "beside":
        require_device(config.learner)
    require_place(config, spec)
    require_beginning(config, spec, run_dir)
    return config


def tried(config: EnvConfig) -> EnvSpec:
    """The sizes of an environment that was made and played for a moment; says what looks wrong.

    Raises:
        BadInput: it cannot be made.
        EnvironmentCrashed: it failed in its first steps.
    """
    trial = try_environment(config, steps=_STEPS_TRIED)
    if trial.crash is not None:
        raise trial.crash
    for finding in findings(config, trial):
        logger.warning("%s. %s", finding.what, finding.advice)
    return trial.spec


@dataclass(frozen=True, slots=True)
class Front:
    """A run directory that is claimed, and its log."""

    paths: RunPaths
    log: RunLog
    tracker: Tracker | None
    """Takes every report besides the log, if one is asked for."""
    show: Observer | None
    """Is shown every report besides."""
    news: tuple[str, ...]
    """For the log: which program wrote here before, which settings are new to the run."""
    random_return: float | None
    """Mean return of random play, where it is known."""

    def tell_news(self) -> None:
        """Logs what is new; to be called once there is a log."""
        for sentence in self.news:
            logger.info("%s", sentence)

    def observe(self, report: Report, policy_step: int, gradient_step: int) -> None:
        """Logs a report, keeps its pictures and shows it; an Observer."""
        self.log.write(report, policy_step=policy_step, gradient_step=gradient_step)
        if self.tracker is not None:
            self.tracker.write(report, policy_step=policy_step, gradient_step=gradient_step)
        self._keep(report.pictures)
        if self.show is not None:
            self.show(report, policy_step, gradient_step)

    def draw(self, draw: Callable[[], Mapping[str, bytes]], schedule: AnySchedule) -> None:
        """Has pictures drawn, logs and keeps them. They are not worth a run."""
        try:
            pictures = draw()
        except (OSError, DreamerError) as error:
            logger.warning("No open-loop picture was drawn: %s", error)
            return
        if pictures:
            report = Report(service="learner", pictures=pictures)
            self.observe(report, schedule.policy_steps, schedule.gradient_steps)

    def _keep(self, pictures: Mapping[str, bytes]) -> None:
        """Writes pictures into the run directory, in place of older ones."""
        for name, png in pictures.items():
            path = self.paths.picture(name)
            try:
                write_whole(path, png)
            except OSError as error:
                logger.warning("%s was not written: %s", path, error)

    def trained(self, run: OwnRun[Any], should_stop: Callable[[], bool]) -> RunResult:
        """Trains a run in this process and closes it, whatever happens.

        A checkpoint is written when it is done or asked to stop, before it is evaluated once more.
        """
        try:
            run.run(should_stop)
            run.save()
            run.evaluate_last(should_stop)
            self.draw(run.draw_open_loop, run.schedule)
        finally:
            run.close()
        return self.result(run.schedule)

    def result(self, schedule: AnySchedule) -> RunResult:
        """Draws the learning curve and returns what is there now.

        A curve that cannot be drawn is a warning: the run itself is good.
        """
        pictures = [path for path in [self.paths.picture(OPEN_LOOP)] if path.is_file()]
        try:
            pictures.insert(0, plot_learning_curve(self.paths.root, self.random_return))
        except (OSError, BadInput) as error:
            logger.warning("No learning curve was drawn: %s", error)
        return RunResult(
            run_dir=self.paths.root,
            policy_steps=schedule.policy_steps,
            gradient_steps=schedule.gradient_steps,
            is_finished=schedule.is_done,
            pictures=tuple(pictures),
        )


@contextmanager
def open_front(
    config: Config, spec: EnvSpec, run_dir: Path, show: Observer | None
) -> Generator[Front]:
    """Claims the directory and opens its log while the block runs.

    Raises:
        RunDirectoryError: see `open_run`.
        BadInput: its log cannot be opened.
        Failed: its disk is full.
    """
    news: list[str] = []
    frames = spec.frames_per_policy_step
    with (
        open_run(run_dir, config, news.append) as paths,
        RunLog(run_dir, frames_per_policy_step=frames, about=about(config)) as log,
        ExitStack() as stack,
    ):
        tracker = None
        if config.tracker.wandb is not None:
            opened = Tracker(config, run_dir, frames_per_policy_step=frames)
            tracker = stack.enter_context(closing(opened))
        yield Front(paths, log, tracker, show, tuple(news), random_return(config.env))
