"""`dreamer demo`: the agent that comes with this program, at play beside its dream."""

from __future__ import annotations

import contextlib
import os
import webbrowser
from dataclasses import asdict, dataclass
from threading import Thread

from rich.console import Console

from dreamer_core.storage.named import DEMO_DIRECTORY
from services.cli.parsing import parse
from services.terminal.stop_request import StopRequest
from services.watch.command import PageOptions, WatchCommand

_SHOWS_PAGES = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables without which only browsers within the terminal are left, which would take it over."""

_WORDS = """\
The white boxer is the agent. Beside the game is what its world model dreams meanwhile.
Random play scores 0 here, a human gamer 12, this agent 32.7 (mean of 20 greedy episodes)."""


@dataclass(frozen=True, kw_only=True)
class DemoCommand(PageOptions):
    """Opens a page on which the trained agent of this package plays Boxing beside its dream."""

    browser: bool = True
    """Open the page in a browser where there is one; its address is printed in any case."""


def run(arguments: list[str]) -> int:
    """Serves the page, opens it, and returns the exit code."""
    command = parse(DemoCommand, arguments, "dreamer demo")
    page = {name: value for name, value in asdict(command).items() if name != "browser"}
    console = Console(markup=False)
    should_stop = StopRequest(lambda _: None)  # there is nothing to finish first

    def on_listening(url: str) -> None:
        console.print(f"The demo is at {url} (Ctrl-C ends it)", soft_wrap=True, highlight=False)
        console.print(_WORDS, soft_wrap=True, highlight=False)
        if command.browser and any(map(os.environ.get, _SHOWS_PAGES)):
            Thread(target=_show, args=(url,), daemon=True).start()  # some last while they are open

    from services.watch.server import watch  # noqa: PLC0415 (imports aiohttp)

    demo = WatchCommand(run_dir=DEMO_DIRECTORY, **page)
    watch(demo, on_listening=on_listening, should_stop=should_stop)
    return should_stop.exit_code


def _show(url: str) -> None:
    """Opens the page in a browser; none, or one that fails, is no fault of the demo."""
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
