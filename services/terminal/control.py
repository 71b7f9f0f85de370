"""Stops a run and shows its log, from its directory alone."""

from __future__ import annotations

import os
import platform
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from dreamer_core.errors import BadInput, Failed, naming
from dreamer_core.storage.run_directory import RunPaths, holder, read_config

_POLL_S = 0.2
_SIGNATURE = re.compile(r"process (\d+) on (.+)")  # of a lock, as open_run writes it


@dataclass(frozen=True, kw_only=True)
class StopCommand:
    """Stops a running run as Ctrl-C does: a checkpoint is written, and the run is resumable."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    timeout_s: float = 90.0
    """Longest wait for its end."""


@dataclass(frozen=True, kw_only=True)
class LogsCommand:
    """Prints the log of a run: starts, stops, what failed and was replaced."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    follow: bool = False
    """Go on until the run ends."""


class StillRunning(Failed):
    """A run that was to stop cannot be stopped from here, or takes its time."""


def stop(command: StopCommand) -> bool:
    """Asks the run to stop and waits until it has; False if nobody trains there.

    Raises:
        RunDirectoryError: the directory holds no run.
        StillRunning: it runs on another machine or is another user's, or did not end in time.
    """
    read_config(command.run_dir)
    paths = RunPaths(command.run_dir)
    who = holder(paths)
    if who is None:
        return False
    signature = _SIGNATURE.fullmatch(who)
    if signature is None:
        raise StillRunning(f"The run in {command.run_dir} is just starting; try again")
    pid, machine = signature.groups()
    if machine != platform.node():
        raise StillRunning(
            f"Wanted to stop the run in {command.run_dir}, but {who} holds it and this is "
            f"{platform.node()}; stop it there, or with --on"
        )
    try:
        os.kill(int(pid), signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise StillRunning(
            f"Wanted to stop the run in {command.run_dir}, but {who} belongs to another user; stop "
            "it as that user"
        ) from error
    give_up_s = time.monotonic() + command.timeout_s
    while holder(paths) == who:
        if time.monotonic() > give_up_s:
            raise StillRunning(
                f"The run in {command.run_dir} was asked to stop, but {who} still holds it after "
                f"{command.timeout_s:g} s; look at `dreamer logs`, and wait longer with --timeout-s"
            )
        time.sleep(_POLL_S)
    return True


def log_lines(command: LogsCommand) -> Iterator[str]:
    """Yields the lines of the log; with `follow` as they come, until the run ends.

    Raises:
        RunDirectoryError: the directory holds no run.
        BadInput: the run never had a log, since only `dreamer train` writes one, or it cannot be
            read.
    """
    read_config(command.run_dir)
    paths = RunPaths(command.run_dir)
    with naming(f"read {paths.log}", "Mend its permissions"):
        if not paths.log.exists():
            raise BadInput(
                f"Wanted the log of a run, but {command.run_dir} has none; `dreamer train` writes "
                "one, `dreamer local` and `offline` do not"
            )
        log = paths.log.open(errors="replace")
    rest = ""
    with log:
        while True:
            is_last = not command.follow or holder(paths) is None
            rest += log.read()
            *lines, rest = rest.split("\n")
            yield from lines
            if is_last:
                break
            time.sleep(_POLL_S)
    if rest:
        yield rest
