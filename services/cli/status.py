"""`dreamer status`: where a run or a sweep stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from services.cli.parsing import parse
from services.cli.say import say
from services.sweep import is_sweep
from services.terminal.status import as_json, read_status, render_status


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Prints where a run or a sweep stands, running or not."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, or of the sweep."""
    json: bool = False
    """For programs: one object; of a run with every metric's newest value, of a sweep with every
    run."""


def parsed(arguments: list[str]) -> StatusCommand:
    """Returns what is asked for; looks at no directory, which may be another machine's."""
    return parse(StatusCommand, arguments, "dreamer status")


def run(arguments: list[str]) -> int:
    """Prints the status, and returns the exit code."""
    command = parsed(arguments)
    if is_sweep(command.run_dir):
        return _of_sweep(command)
    status = read_status(command.run_dir)
    if command.json:
        say(as_json(status))
    else:
        Console(markup=False).print(render_status(status))
    return 0


def _of_sweep(command: StatusCommand) -> int:
    from services.sweep import status, table  # noqa: PLC0415 (for a sweep alone)

    found = status.SweepReader(command.run_dir).read()
    if command.json:
        say(status.as_json(found))
    else:
        Console(markup=False).print(table.render_status(found))
    return 0
