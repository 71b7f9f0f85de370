"""`dreamer status`: where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from services.cli.parsing import parse
from services.terminal.status import render_status


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Prints where a run stands, running or not."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""


def run(arguments: list[str]) -> int:
    """Prints the status, and returns the exit code."""
    command = parse(StatusCommand, arguments, "dreamer status")
    Console().print(render_status(command.run_dir))
    return 0
