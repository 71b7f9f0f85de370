"""Starts, watches and ends one run of a sweep, on whichever node Ray has room for it.

The run is a process of its own, `dreamer local`: it trains as it would alone, its crash is its own,
and several of them share a GPU. It is killed with the worker, whatever ends that.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from dreamer_core.storage.run_directory import RunPaths, holder
from services.cluster.signals import hear_sigterm

STOP_PATIENCE_S = 60.0
"""For the checkpoint of a run that is asked to stop, before it is killed."""
_MARKER_PATIENCE_S = 10.0  # a shared file system shows new files late
_HOLDER_PATIENCE_S = 60.0  # a node that was lost may take its run's lock along for a while
_POLL_S = 0.2
_REASON_CHARACTERS = 600
_LOG_TAIL_BYTES = 20_000

Ending = Literal["done", "failed", "stopped", "interrupted", "unseen"]
"""How a run ended: `stopped` is what the sweep asked for, `interrupted` what somebody else did, and
`unseen` did not start, since its node does not see the directory. Everything else that is not
`done` has `failed`: settings that are refused look like a driver that a node lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What a worker is to run."""

    arguments: tuple[str, ...]
    """Of `dreamer`."""
    run_dir: Path
    log: Path
    marker: Path
    """File by which the worker knows the sweep's directory."""
    sweep_id: str
    """What it holds."""
    cwd: Path
    """Where the command is started, if its node has that directory."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and why."""

    ending: Ending
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node: Ray's id of it, and its name for people."""

    node_id: str
    name: str


class SweepWorker:
    """An actor that runs one process, while other threads of it answer.

    Args:
        stop_patience_s: see STOP_PATIENCE_S.
    """

    def __init__(self, stop_patience_s: float = STOP_PATIENCE_S) -> None:
        self._stop_patience_s = stop_patience_s
        self._is_stopping = threading.Event()

    def node(self) -> Node:
        """Returns where this is."""
        import ray  # noqa: PLC0415 (the rest of this file is a plain class)

        return Node(ray.get_runtime_context().get_node_id(), platform.node())

    def stop(self) -> None:
        """Has the run write a checkpoint and end; `run` returns when it has."""
        self._is_stopping.set()

    def run(self, order: RunOrder) -> Outcome:
        """Runs the command to its end.

        Raises:
            OSError: its log cannot be written.
        """
        if not _sees_directory(order):
            return Outcome(
                "unseen",
                f"Node {platform.node()} does not see {order.marker}, or sees another file there. "
                "A sweep's directory has to be on a file system that all nodes share, under the "
                "same path",
            )
        who = self._wait_for_holder(RunPaths(order.run_dir))
        if self._is_stopping.is_set():
            return Outcome("stopped")
        if who is not None:
            return Outcome("failed", f"{order.run_dir} is in use by {who}")
        order.log.parent.mkdir(parents=True, exist_ok=True)
        with order.log.open("ab") as log:
            began_at = log.tell()
            hear_sigterm()  # which is how the run is stopped
            process = _start(order, log)
            exit_code = self._watch(process)
        return self._outcome(exit_code, _last_words(order.log, began_at))

    def _wait_for_holder(self, paths: RunPaths) -> str | None:
        """Returns who still trains there, after some patience."""
        give_up_s = time.monotonic() + _HOLDER_PATIENCE_S
        while (who := holder(paths)) is not None and time.monotonic() < give_up_s:
            if self._is_stopping.wait(_POLL_S):
                break
        return who

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        """Waits for the end; asks for it once, and then for no longer than is right."""
        kill_s = None
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_S)
            if self._is_stopping.is_set() and kill_s is None:
                process.terminate()
                kill_s = time.monotonic() + self._stop_patience_s
            elif kill_s is not None and time.monotonic() > kill_s:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _outcome(self, exit_code: int, words: str) -> Outcome:
        if exit_code == 0:
            return Outcome("done")
        if self._is_stopping.is_set():
            return Outcome("stopped")
        if exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            return Outcome("interrupted", f"it was sent {signal.Signals(exit_code - 128).name}")
        if exit_code < 0:
            return Outcome("failed", f"it was ended by {signal.Signals(-exit_code).name}")
        return Outcome("failed", words or f"it ended with exit code {exit_code} and no word")


def _sees_directory(order: RunOrder) -> bool:
    give_up_s = time.monotonic() + _MARKER_PATIENCE_S
    while True:
        with suppress(OSError):
            if order.sweep_id in order.marker.read_text():
                return True
        if time.monotonic() > give_up_s:
            return False
        time.sleep(_POLL_S)


def _start(order: RunOrder, log: BinaryIO) -> subprocess.Popen[bytes]:
    dreamer = (sys.executable, "-P", "-m", "services.cli", *order.arguments)
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {platform.node()}: {shlex.join(dreamer)}\n"
    log.write(head.encode())
    log.flush()
    # The kernel means the thread that starts it: the one that then waits for it in `_watch`.
    return subprocess.Popen(  # noqa: S603 (it is this program)
        (sys.executable, "-P", "-m", "services.sweep.tied", str(os.getpid()), *dreamer),
        cwd=order.cwd if order.cwd.is_dir() else None,
        env={**os.environ, "COLUMNS": "120", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C in the sweep's terminal is for the sweep
    )


def _last_words(path: Path, begin: int) -> str:
    """Returns the last error that was logged since `begin`: the command's own, or Python's."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(begin, path.stat().st_size - _LOG_TAIL_BYTES))
        return find_reason(file.read().decode(errors="replace"))
    return ""


def find_reason(text: str) -> str:
    """Returns the last error of the command, as text or as JSON; without one, the last line."""
    _, *lines = (line.strip() for line in text.splitlines() or [""])  # the first: the command
    errors = [error for line in lines if (error := _error_in(line)) is not None]
    said = errors or [line for line in lines if line]
    return said[-1][:_REASON_CHARACTERS] if said else ""


def _error_in(line: str) -> str | None:
    """Returns what a line says if it is an error of the command; see `line_of`."""
    with suppress(ValueError, TypeError, KeyError):
        told = json.loads(line)
        is_error = (told["service"], told["level"]) == ("dreamer", "ERROR")
        return str(told["message"]) if is_error else None
    _time, is_error, words = line.partition(" dreamer ERROR ")
    return words if is_error else None
