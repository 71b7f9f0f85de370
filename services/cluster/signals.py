"""The processes that Ray starts for a cluster of this one's own, and the signals they hear.

They have to live until this process has saved, but some signals go to all at once: SIGHUP when a
terminal goes away, SIGTERM when systemd stops a service or a machine shuts down.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def children_of(process: int) -> list[int]:
    """Returns the ids of what a process has started and lives, where Linux tells; else none."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    found: list[int] = []
    for path in lists:
        with suppress(OSError):  # a thread that ended meanwhile
            found += map(int, path.read_text().split())
    return found
