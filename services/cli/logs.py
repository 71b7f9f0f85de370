"""`dreamer logs`: starts, stops, checkpoints and faults of a run."""

from __future__ import annotations

import tyro

from services.cli.dispatch import say
from services.terminal import control


def run(arguments: list[str]) -> int:
    """Prints the log of a run, and returns the exit code."""
    command = tyro.cli(control.LogsCommand, args=arguments, prog="dreamer logs")
    for line in control.log_lines(command):
        say(line)
    return 0
