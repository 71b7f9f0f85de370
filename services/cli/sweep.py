"""`dreamer sweep`: many runs."""

from __future__ import annotations

from rich.console import Console

from dreamer_core.errors import Failed
from services.cli.options import with_preset
from services.cli.training import log_through
from services.sweep.plan import refuse_options_of_one_run
from services.sweep.sweep import SweepCommand, sweep
from services.sweep.table import SweepDisplay, render_end
from services.terminal.stop_request import TERMINATED_EXIT, StopRequest


def run(arguments: list[str]) -> int:
    """Trains many runs, and returns the exit code."""
    refuse_options_of_one_run(arguments)
    command = with_preset(SweepCommand, arguments, "dreamer sweep PRESET")
    console = Console(log_path=False)
    with SweepDisplay(command.directory, console=console) as display:
        log_through(console, is_live=console.is_terminal)
        should_stop = StopRequest(console.log)
        progress = sweep(
            command,
            observe=display.update,
            on_start=should_stop.listen,
            should_stop=should_stop,
        )
    console.print(render_end(progress, command.directory))
    if not progress.is_over:
        return should_stop.exit_code or TERMINATED_EXIT
    return Failed.exit_code if progress.where("failed") else 0
