"""`dreamer stop`: a running run or sweep writes its checkpoints and ends."""

from __future__ import annotations

from services.cli.parsing import parse
from services.cli.run_or_sweep import run_or_sweep_at
from services.cli.say import say
from services.terminal import control


def parsed(arguments: list[str]) -> control.StopCommand:
    """Returns what is asked for; looks at no directory, which may be another machine's."""
    return parse(control.StopCommand, arguments, "dreamer stop")


def run(arguments: list[str]) -> int:
    """Stops it, and returns the exit code."""
    command = parsed(arguments)
    has_stopped = control.stop(command, run_or_sweep_at(command.run_dir), say)
    say("Stopped" if has_stopped else f"Nobody trains in {command.run_dir}")
    return 0
