"""`dreamer watch`: a page of the agent at play beside its dream."""

from __future__ import annotations

from rich.console import Console

from services.cli.parsing import parse
from services.terminal.stop_request import StopRequest
from services.watch.server import WatchCommand, watch


def run(arguments: list[str]) -> int:
    """Serves the page, and returns the exit code."""
    command = parse(WatchCommand, arguments, "dreamer watch")
    console = Console()
    should_stop = StopRequest(lambda _: None)  # there is nothing to finish first

    def on_listening(url: str) -> None:
        console.print(f"Watch at {url} (Ctrl-C ends it)", soft_wrap=True, highlight=False)

    watch(command, on_listening=on_listening, should_stop=should_stop)
    return should_stop.exit_code
