"""The front door of a run: what `dreamer local` and `dreamer train` do alike around the training.

config, spec = check(config, run_dir)       before anything is written
with open_front(config, spec, run_dir, observe) as front:
    ...                                     train; hand every report to front.observe
    front.draw(...)                         the open-loop picture
    return front.result(schedule)
                                            draw the curve, say what was left behind
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dreamer_core.agent.device import choose_execution
from dreamer_core.config import Config, EnvConfig
from dreamer_core.errors import BadInput, DreamerError
from dreamer_core.files import write_whole
from dreamer_core.report.about import about
from dreamer_core.report.curves import plot_learning_curve
from dreamer_core.report.log import RunLog
from dreamer_core.run.findings import findings
from dreamer_core.run.progress import Observer
from dreamer_core.run.restored import require_beginning
from dreamer_core.run.schedule import Schedule
from dreamer_core.run.settled import settled
from dreamer_core.run.trainer import OPEN_LOOP, require_place
from dreamer_core.run.trial import try_environment
from dreamer_core.storage.run_directory import RunPaths, open_run
from dreamer_core.types import EnvSpec, Report

logger = logging.getLogger(__name__)

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


def check(config: Config, run_dir: Path, *, is_trained_here: bool = True) -> tuple[Config, EnvSpec]:
    """Tries what the config names, before anything is written.

    Returns the config as it is trained (settled.py), and the sizes of the environment.

    Args:
        config: of the run.
        run_dir: of the run, made or not.
        is_trained_here: the device is one of this machine.

    Raises:
        BadInput: the environment, the device, the place of the checkpoints or the networks to begin
            with are not to be had.
        EnvironmentCrashed: the environment failed in its first steps.
        Failed: the place of the checkpoints does not answer, or its disk is full.
    """
    spec = _tried(config.env)
    config = settled(config, spec)
    if is_trained_here:
        choose_execution(config.learner)
    require_place(config, spec)
    require_beginning(config, spec, run_dir)
    return config, spec


def _tried(config: EnvConfig) -> EnvSpec:
    """The sizes of an environment that was made and played for a moment; says what looks wrong."""
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
    show: Observer | None
    """Is shown every report besides the log."""

    def observe(self, report: Report, policy_step: int, gradient_step: int) -> None:
        """Logs a report, keeps its pictures and shows it; an Observer."""
        self.log.write(report, policy_step=policy_step, gradient_step=gradient_step)
        self._keep(report.pictures)
        if self.show is not None:
            self.show(report, policy_step, gradient_step)

    def draw(self, draw: Callable[[], Mapping[str, bytes]], schedule: Schedule) -> None:
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

    def result(self, schedule: Schedule) -> RunResult:
        """Draws the learning curve and returns what is there now.

        A curve that cannot be drawn is a warning: the run itself is good.
        """
        pictures = [path for path in [self.paths.picture(OPEN_LOOP)] if path.is_file()]
        try:
            pictures.insert(0, plot_learning_curve(self.paths.root))
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
    with (
        open_run(run_dir, config) as paths,
        RunLog(
            run_dir, frames_per_policy_step=spec.frames_per_policy_step, about=about(config)
        ) as log,
    ):
        yield Front(paths, log, show)
