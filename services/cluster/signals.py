"""Which signals reach the processes that Ray starts here, and a command that runs elsewhere.

Those of a cluster of this process's own have to live until it has saved, but some signals go to all
at once: SIGHUP when a terminal goes away, SIGTERM when systemd stops a service or a machine shuts
down. A command that was sent to a cluster has to end with the one that sent it.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_ECHO_S = 0.1  # a signal that comes again within it is the same
_KEPT = (signal.SIGHUP, signal.SIGTERM)


@contextmanager
def kept_from_children() -> Generator[None]:
    """Blocks SIGHUP and SIGTERM for good in processes started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_sigterm() -> None:
    """Has this thread and what it starts take SIGTERM again, which may be how those are ended."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


@contextmanager
def raised_by_signals() -> Generator[None]:
    """Has Ctrl-C, SIGTERM and SIGHUP raise SystemExit in the block, so that it cleans up.

    One that follows at once is the same: a closed terminal sends two, and so does `timeout`.
    """
    taken_s = -math.inf

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal taken_s
        if time.monotonic() - taken_s > _ECHO_S:
            taken_s = time.monotonic()
            raise SystemExit(128 + number)

    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in heard}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # of nohup
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def children_of(process: int) -> list[int]:
    """Returns the ids of what a process has started and lives, where Linux tells; else none."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    found: list[int] = []
    for path in lists:
        with suppress(OSError):  # a thread that ended meanwhile
            found += map(int, path.read_text().split())
    return found
