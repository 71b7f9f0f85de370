"""`dreamer sweep`: many runs."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console

from dreamer_core.errors import BadInput, Failed
from services.cli.dispatch import say
from services.cli.options import with_preset
from services.cli.training import log_through
from services.cluster import remote
from services.logs import WithoutPrefixes, is_json, line_of, use_log_format
from services.sweep.command import SweepCommand
from services.sweep.plan import refuse_options_of_one_run
from services.sweep.progress import PHASES, SweepProgress
from services.sweep.table import SweepDisplay, render_end
from services.terminal.stop_request import TERMINATED_EXIT, StopRequest


def run(arguments: list[str]) -> int:
    """Trains many runs, and returns the exit code."""
    command = _parsed(arguments)
    use_log_format(command.log_format)
    console = Console(log_path=False)
    plain_stderr = redirect_stderr(cast(TextIO, WithoutPrefixes(sys.stderr)))
    display = SweepDisplay(command.directory, console=console, is_plain=is_json())
    with plain_stderr, display:
        log_through(console, is_live=display.is_live, heard=display.heard)
        from services.sweep.sweep import sweep  # noqa: PLC0415 (imports Ray)

        should_stop = StopRequest(console.log)
        progress = sweep(
            command,
            observe=display.update,
            on_start=lambda _url: should_stop.listen(),
            should_stop=should_stop,
        )
    _say_end(console, progress, command.directory)
    if not progress.is_over:
        return should_stop.exit_code or TERMINATED_EXIT
    return Failed.exit_code if progress.where("failed") else 0


def submit(cluster: str, arguments: list[str]) -> int:
    """Starts a sweep as a job on a cluster, and returns the exit code."""
    remote.require_cluster(cluster)
    command = _parsed(arguments)
    if command.ray_address is not None:
        raise BadInput("--ray-address is the cluster's own for a sweep with --on; drop it")
    from services.sweep.games import named_games  # noqa: PLC0415 (imports the emulator)

    named_games(command.games, command.config)
    words = ["sweep", *arguments]
    if command.sweep_dir is None:
        words += ["--sweep-dir", str(command.directory)]
    code = remote.submit(cluster, words, command.directory, say)
    if code == 0 and not remote.is_relayed():
        remote.say_how_to_go_on(cluster, command.directory, say)
    return code


def _parsed(arguments: list[str]) -> SweepCommand:
    refuse_options_of_one_run(arguments)
    return with_preset(SweepCommand, arguments, "dreamer sweep PRESET")


def _say_end(console: Console, progress: SweepProgress, sweep_dir: Path) -> None:
    if not is_json():
        console.print(render_end(progress, sweep_dir))
        return
    states = {phase: progress.count(phase) for phase in PHASES}
    facts = {"is_finished": progress.is_over, **states, "scores": str(sweep_dir / "scores.json")}
    line = line_of("dreamer", "INFO", f"Ended: {progress}", time.time(), **facts)
    console.print(line, markup=False, highlight=False, soft_wrap=True)
