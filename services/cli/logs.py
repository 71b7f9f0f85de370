"""`dreamer logs`: starts, stops and faults of a run or a sweep."""

from __future__ import annotations

from services.cli.parsing import parse
from services.cli.run_or_sweep import run_or_sweep_at
from services.cli.say import say
from services.terminal import control


def parsed(arguments: list[str]) -> control.LogsCommand:
    """Returns what is asked for; looks at no directory, which may be another machine's."""
    return parse(control.LogsCommand, arguments, "dreamer logs")


def run(arguments: list[str]) -> int:
    """Prints the log, and returns the exit code."""
    command = parsed(arguments)
    for line in control.log_lines(command, run_or_sweep_at(command.run_dir)):
        say(line)
    return 0
