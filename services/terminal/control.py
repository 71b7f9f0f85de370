"""Stops a run or a sweep and shows its log, from its directory alone."""

from __future__ import annotations

import os
import platform
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from dreamer_core.errors import BadInput, Failed, naming
from dreamer_core.files import lock_holder
from dreamer_core.storage.run_directory import RunPaths, read_config

_POLL_S = 0.2
_SIGNATURE = re.compile(r"process (\d+) on (.+)")  # of a lock, as open_run writes it


@dataclass(frozen=True, kw_only=True)
class StopCommand:
    """Stops a run or a sweep as Ctrl-C does: checkpoints are written, and it is resumable."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, or of the sweep."""
    timeout_s: float = 90.0
    """Longest wait for its end."""


@dataclass(frozen=True, kw_only=True)
class LogsCommand:
    """Prints the log of a run or a sweep: starts, stops, what failed and was replaced."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, or of the sweep."""
    follow: bool = False
    """Go on until it ends."""


class StillRunning(Failed):
    """A run that was to stop cannot be stopped from here, or takes its time."""


@dataclass(frozen=True, slots=True)
class RunOrSweep:
    """Where a run or a sweep has what it is stopped and followed by."""

    kind: Literal["run", "sweep"]
    lock: Path
    log: Path

    def holder(self) -> str | None:
        """Who has it running, as `process N on HOST`; None if nobody does."""
        with naming(f"see who holds {self.lock.parent}", "Mend its permissions"):
            return lock_holder(self.lock)


def run_at(run_dir: Path) -> RunOrSweep:
    """Raises RunDirectoryError where the directory holds no run."""
    read_config(run_dir)
    return RunOrSweep("run", RunPaths(run_dir).lock, RunPaths(run_dir).log)


def stop(
    command: StopCommand, target: RunOrSweep, say: Callable[[str], None] = lambda _words: None
) -> bool:
    """Asks the run or the sweep to stop and waits until it has; False if nobody trains there.

    Args:
        command: what to stop, and how long to wait.
        target: of its lock.
        say: is told once it was asked.

    Raises:
        StillRunning: it runs on another machine or is another user's, or did not end in time.
    """
    who, what = target.holder(), f"the {target.kind} in {command.run_dir}"
    if who is None:
        return False
    signature = _SIGNATURE.fullmatch(who)
    if signature is None:
        raise StillRunning(f"Wanted to stop {what}, but it is just starting; try again")
    pid, machine = signature.groups()
    if machine != platform.node():
        raise StillRunning(
            f"Wanted to stop {what}, but {who} holds it and this is "
            f"{platform.node()}; stop it there, or with --on"
        )
    try:
        os.kill(int(pid), signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise StillRunning(
            f"Wanted to stop {what}, but {who} belongs to another user; stop it as that user"
        ) from error
    say(f"Asked {who} to stop; it writes its checkpoints first")
    give_up_s = time.monotonic() + command.timeout_s
    while target.holder() == who:
        if time.monotonic() > give_up_s:
            raise StillRunning(
                f"Asked {what} to stop, but {who} still holds it after {command.timeout_s:g} s; "
                "look at `dreamer logs`, and wait longer with --timeout-s"
            )
        time.sleep(_POLL_S)
    return True


def log_lines(command: LogsCommand, target: RunOrSweep) -> Iterator[str]:
    """Yields the lines of the log; with `follow` as they come, until the run or sweep ends.

    Raises:
        BadInput: the run never had a log, since only `dreamer train` writes one, or it cannot be
            read.
    """
    with naming(f"read {target.log}", "Mend its permissions"):
        if not target.log.exists():
            raise BadInput(
                f"Wanted the log of a {target.kind}, but {command.run_dir} has none; `dreamer "
                "train` and `sweep` write one, `dreamer local` and `offline` do not"
            )
        log = target.log.open(errors="replace")
    rest = ""
    with log:
        while True:
            is_last = not command.follow or target.holder() is None
            rest += log.read()
            *lines, rest = rest.split("\n")
            yield from lines
            if is_last:
                break
            time.sleep(_POLL_S)
    if rest:
        yield rest
