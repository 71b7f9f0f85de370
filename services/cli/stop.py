"""`dreamer stop`: a running run writes a checkpoint and ends."""

from __future__ import annotations

import tyro

from services.cli.dispatch import say
from services.terminal import control


def run(arguments: list[str]) -> int:
    """Stops a run, and returns the exit code."""
    command = tyro.cli(control.StopCommand, args=arguments, prog="dreamer stop")
    has_stopped = control.stop(command)
    say("Stopped" if has_stopped else f"Nobody trains in {command.run_dir}")
    return 0
