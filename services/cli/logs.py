"""`dreamer logs`: starts, stops and faults of a run."""

from __future__ import annotations

from services.cli.dispatch import say
from services.cli.parsing import parse
from services.terminal import control


def run(arguments: list[str]) -> int:
    """Prints the log of a run, and returns the exit code."""
    command = parse(control.LogsCommand, arguments, "dreamer logs")
    for line in control.log_lines(command):
        say(line)
    return 0
