"""`dreamer status`: where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from services.cli.dispatch import say
from services.cli.parsing import parse
from services.terminal.status import as_json, read_status, render_status


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Prints where a run stands, running or not."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    json: bool = False
    """For programs: one object, with every metric's newest value."""


def run(arguments: list[str]) -> int:
    """Prints the status, and returns the exit code."""
    command = parse(StatusCommand, arguments, "dreamer status")
    status = read_status(command.run_dir)
    if command.json:
        say(as_json(status))
    else:
        Console().print(render_status(status))
    return 0
