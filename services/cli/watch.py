"""`dreamer watch`: a page of the agent at play beside its dream, or of all runs of a sweep."""

from __future__ import annotations

from rich.console import Console

from dreamer_core.storage.named import run_named
from dreamer_core.storage.run_directory import read_config
from services.cli.parsing import parse
from services.sweep import is_sweep
from services.terminal.stop_request import StopRequest
from services.watch.command import WatchCommand


def run(arguments: list[str]) -> int:
    """Serves the page, and returns the exit code."""
    command = parse(WatchCommand, arguments, "dreamer watch")
    console = Console(markup=False)
    should_stop = StopRequest(lambda _: None)  # there is nothing to finish first

    def on_listening(url: str) -> None:
        console.print(f"Watch at {url} (Ctrl-C ends it)", soft_wrap=True, highlight=False)

    if is_sweep(command.run_dir):
        from services.sweep.status import SweepReader, described  # noqa: PLC0415 (for one alone)
        from services.watch.wall import watch_wall  # noqa: PLC0415

        reader = SweepReader(command.run_dir)
        watch_wall(
            command,
            lambda: described(reader.read()),
            on_listening=on_listening,
            should_stop=should_stop,
        )
        return should_stop.exit_code
    read_config(run_named(command.run_dir))  # a wrong directory is told at once
    from services.watch.server import watch  # noqa: PLC0415 (imports aiohttp)

    watch(command, on_listening=on_listening, should_stop=should_stop)
    return should_stop.exit_code
