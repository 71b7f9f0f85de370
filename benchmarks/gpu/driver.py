"""Finds out one thing after another, each in a process that ends with the time at the latest."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.results import Results

AGAIN = 75
"""Exit code while there is more to do."""
SAVING_S = 45.0  # that a training has for its checkpoint, and all else to end
_LEAST_S = {True: 120.0, False: 15.0}  # in which a training, or anything else, is not begun
_WHOLE_S = 400.0  # what is not done after so long will not be


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to find out."""

    name: str
    results: Results
    """Where it goes."""
    command: Sequence[str]
    """Finds it out, given --only and --to."""
    is_training: bool = False
    frames: int | None = None
    """At which a training is done; None: when the time is over."""
    is_alone: bool = True
    """Nothing else runs meanwhile."""

    def is_lacking(self) -> bool:
        """Whether it is not known yet; a training without an end always goes on."""
        found = self.results.of(self.name)
        if found is None or not self.is_training:
            return found is None
        return "error" not in found and (self.frames is None or found["frames"] < self.frames)


def drive(groups: Sequence[Sequence[Item]], *, until: float) -> bool:
    """Finds out what is lacking, group after group; whether all is known.

    Args:
        groups: in their order; what need not be alone runs side by side within its group.
        until: when no process may be left, on time.monotonic's clock.
    """
    for group in groups:
        lacking = [item for item in group if item.is_lacking()]
        together = [item for item in lacking if not item.is_alone]
        for batch in [together, *([item] for item in lacking if item.is_alone)]:
            if batch and not _find_out(batch, until):
                return False
    return True


def _find_out(batch: Sequence[Item], until: float) -> bool:
    """Runs processes side by side; whether there was time for it.

    What was cut off is begun anew by the next command, unless it had a whole command's time.
    """
    left_s = until - time.monotonic()
    if left_s < _LEAST_S[batch[0].is_training]:
        return False
    with tempfile.TemporaryDirectory() as folder:
        answers = [Path(folder) / str(index) for index in range(len(batch))]
        running = [_start(*pair, left_s) for pair in zip(batch, answers, strict=True)]
        is_over = False
        try:
            for item, answer, process in zip(batch, answers, running, strict=True):
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    is_over = True
                    if left_s > _WHOLE_S and not item.is_training:
                        item.results.keep(item.name, _failure(f"not done in {left_s:.0f} s"), None)
                    continue
                _keep(item, answer, process.returncode)
        finally:
            for process in running:
                _end(process)
    still_lacks = batch[0].is_training and batch[0].frames is not None and batch[0].is_lacking()
    return not is_over and not still_lacks


def _start(item: Item, answer: Path, left_s: float) -> subprocess.Popen[bytes]:
    command = [*item.command, "--only", item.name, "--to", str(answer)]
    if item.is_training:
        command += ["--minutes", str((left_s - SAVING_S) / 60)]
    return subprocess.Popen(command, start_new_session=True)  # noqa: S603 (this very script)


def _keep(item: Item, answer: Path, exit_code: int) -> None:
    if exit_code == 0:
        found = json.loads(answer.read_text())
        item.results.keep(item.name, found["result"], found["machine"])
    else:
        item.results.keep(item.name, _failure(f"ended with {exit_code}"), None)


def _failure(error: str) -> dict[str, object]:
    return {"passed": False, "error": error}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
