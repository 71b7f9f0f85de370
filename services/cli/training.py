"""What `train`, `local` and `offline` show alike: the live display, and what a run left behind."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler

from dreamer_core.config import Config
from dreamer_core.envs.games import random_return
from dreamer_core.report.history import RunHistory, read_history
from dreamer_core.run.schedule import Schedule
from dreamer_core.storage.run_directory import default_run_dir
from services.logs import LogFormat, line_of, log_to, use_log_format
from services.terminal.display import Display
from services.terminal.format import called_as
from services.terminal.lasting import LastingStream
from services.terminal.sparkline import ReturnCurve
from services.terminal.stop_request import TERMINATED_EXIT, StopRequest

if TYPE_CHECKING:
    from dreamer_core.run.front import RunResult  # imports PyTorch

logger = logging.getLogger(__name__)

_PAST_BYTES = 32 << 20  # half a day of lines, read in about a second
TrainFunction = Callable[[Path, Display, StopRequest], "RunResult"]
"""Trains in a run directory, shown and until a stop."""
_CHATTY = ("absl", "matplotlib", "OpenGL")


def train_shown(
    config: Config,
    run_dir: Path | None,
    load: Callable[[], TrainFunction],
    log_format: LogFormat,
) -> int:
    """Runs a training under the live display, or with lines, and says what it left behind.

    Args:
        config: of the run.
        run_dir: of the run; None for the default.
        load: imports what trains, for seconds in which Ctrl-C ends the command at once, and returns
            what then trains.
        log_format: of lines.
    """
    use_log_format(log_format)
    is_json = log_format == "json"
    run_dir = run_dir or default_run_dir(config)
    console = Console(file=cast(TextIO, LastingStream(sys.stdout)), log_path=False, markup=False)
    past = past_of(run_dir)
    episodes = past.training.episodes
    is_offline = config.offline.is_on
    curve = None if is_offline else _return_curve(config).with_episodes(episodes)
    with (
        Display(
            config.steps,
            run_dir,
            total_gradient_steps=_gradient_steps(config),
            is_offline=is_offline,
            curve=curve,
            returns=tuple(each.episode_return for each in episodes),
            values=past.newest_evaluation,
            console=console,
            is_plain=is_json,
        ) as display,
    ):
        log_through(console, is_live=display.is_live, heard=display.heard)
        logger.info("%s on %s, in %s", config.preset, config.env.task, run_dir)
        display.heard("Loading PyTorch and trying the environment")
        start = load()
        should_stop = StopRequest(logger.info)
        result = start(run_dir, display, should_stop)
    state = (
        "Finished (raise --steps to train on)"
        if result.is_finished
        else "Stopped; the same command resumes it"
    )
    played = "" if is_offline else f"{result.policy_steps:,} policy steps, "
    words = f"{state}: {played}{result.gradient_steps:,} gradient steps."
    written = _written(config, run_dir, result)
    if not display.is_live:  # the log of a job, say, which is read elsewhere
        paths = {what: str(path) for what, path in written.items()}
        facts = {"is_finished": result.is_finished, **paths}
        if not is_json:
            words += f" {', '.join(f'{what}: {path}' for what, path in paths.items())}"
        line = line_of("dreamer", "INFO", words, time.time(), **facts)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        return should_stop.exit_code or (0 if result.is_finished else TERMINATED_EXIT)
    console.print(words)
    for what, path in written.items():
        console.print(f"  {what:<15} {path}", soft_wrap=True, highlight=False)
    if not is_offline:
        words = f"To see it play: {called_as()} watch {shlex.quote(str(run_dir))}"
        console.print(words, soft_wrap=True, highlight=False)
    return should_stop.exit_code or (0 if result.is_finished else TERMINATED_EXIT)


def _written(config: Config, run_dir: Path, result: RunResult) -> dict[str, str | Path]:
    """Returns what a run leaves behind, and where."""
    return {
        "checkpoints": config.checkpoint.url or run_dir / "checkpoints",
        "replay": ", ".join(config.offline.replays) or run_dir / "replay",
        "TensorBoard": run_dir / "tensorboard",
        "JSONL": run_dir / "metrics.jsonl",
        **{path.stem.replace("_", " "): run_dir / path.name for path in result.pictures},
    }


def _gradient_steps(config: Config) -> int:
    """Returns those that fall due by the end of a run."""
    if config.offline.is_on:
        return config.steps // config.schedule.policy_steps_per_gradient_step
    return Schedule(config.schedule, steps=config.steps, is_lockstep=True).due(config.steps)


def _return_curve(config: Config) -> ReturnCurve:
    """Returns the empty curve of a run; what random play returns is known of the paper's games."""
    return ReturnCurve(
        total_policy_steps=config.steps,
        random_policy_steps=config.schedule.prefill_policy_steps,
        known_random_return=random_return(config.env),
    )


def past_of(run_dir: Path) -> RunHistory:
    """Reads what a run did before, even after its last checkpoint; nothing of a new one."""
    with suppress(OSError):  # what is wrong with the directory is told when it is opened
        return read_history(run_dir, tail_bytes=_PAST_BYTES, damaged=lambda _: None)
    return RunHistory()


def log_through(
    console: Console, *, is_live: bool, heard: Callable[[str], None] = lambda _: None
) -> None:
    """Puts log lines above what is drawn on a terminal, or between the lines of a log.

    Args:
        console: where they are written.
        is_live: whether something is drawn there.
        heard: is told each line that is written.
    """

    def is_written(record: logging.LogRecord) -> bool:
        is_for_the_user = _is_for_the_user(record)
        if is_for_the_user:
            heard(record.getMessage())
        return is_for_the_user

    if not is_live:
        log_to(cast(TextIO, console.file), "dreamer").addFilter(is_written)
        return
    handler = RichHandler(console=console, show_path=False, omit_repeated_times=False)
    handler.addFilter(is_written)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler], force=True)


def _is_for_the_user(record: logging.LogRecord) -> bool:
    """Whether a line tells of the run, and not how dm_control and OpenGL were imported."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _CHATTY
