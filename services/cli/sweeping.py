"""What `dreamer sweep` shows: the live display, and what the sweep left behind."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from dreamer_core.errors import Failed
from services.cli.training import log_through
from services.logs import is_json, line_of, use_log_format
from services.sweep.command import SweepCommand
from services.sweep.progress import PHASES, SweepProgress
from services.sweep.table import SweepDisplay, render_end
from services.terminal.stop_request import TERMINATED_EXIT, StopRequest

_UNWRAPPED_COLUMNS = 10_000
"""A log has no width: a reason or a path is one line of it."""


def sweep_shown(command: SweepCommand) -> int:
    """Runs a sweep under the live display, or with lines; returns the exit code."""
    use_log_format(command.log_format)
    console = Console(log_path=False, markup=False)
    display = SweepDisplay(command.directory, console=console, is_plain=is_json())
    with display:
        log_through(console, is_live=display.is_live, heard=display.heard)
        from services.sweep.sweep import sweep  # noqa: PLC0415 (imports Ray)

        should_stop = StopRequest(console.log)
        progress = sweep(
            command,
            observe=display.update,
            on_start=lambda _url: should_stop.listen(),
            should_stop=should_stop,
        )
    say_end(console, progress, command.directory)
    if not progress.is_over:
        return should_stop.exit_code or TERMINATED_EXIT
    return Failed.exit_code if progress.where("failed") else 0


def say_end(console: Console, progress: SweepProgress, sweep_dir: Path) -> None:
    """Says what the sweep came to: tables, or one object where lines are JSON."""
    if not is_json():
        if not console.is_terminal:
            console.width = _UNWRAPPED_COLUMNS
        console.print(render_end(progress, sweep_dir))
        return
    states = {phase: progress.count(phase) for phase in PHASES}
    facts = {"is_finished": progress.is_over, **states, "scores": str(sweep_dir / "scores.json")}
    line = line_of(
        "dreamer", "INFO", f"Runs, scores and logs are in {sweep_dir}", time.time(), **facts
    )
    console.print(line, markup=False, highlight=False, soft_wrap=True)
