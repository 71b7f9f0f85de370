"""What Ray keeps of a cluster of one machine, /tmp/ray/session_..., and never deletes itself.

A lock in it says whose it is: it is held as long as the process lives that started the cluster.
Sessions without one are not ours, such as those of `ray start`, and are left alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from dreamer_core.files import InUse, lock_holder, take_lock

LOCK = "dreamer.lock"


@contextmanager
def own_session(session: Path) -> Generator[None]:
    """Marks the session of a cluster that ends with the block; clears those of ended commands.

    A block that raises leaves its session, whose logs may tell why, until the next command.
    """
    for other in session.parent.glob("session_*"):
        if other != session and is_ended(other):
            remove(other)
    try:
        lock = take_lock(session / LOCK)
    except (OSError, InUse):  # such as a full disk: it stays, as Ray would leave it
        yield
        return
    with lock:
        yield
        remove(session)


def is_ended(session: Path) -> bool:
    """Whether a session is of a command of this user's that has ended, with all of its processes.

    A command that was killed may leave processes behind for some seconds.
    """
    lock = session / LOCK
    try:
        is_own = not session.is_symlink() and lock.stat().st_uid == os.geteuid()
        if not is_own or lock_holder(lock) is not None:
            return False
    except OSError:  # it has no lock
        return False
    return not any(session.name in line for line in _command_lines())


def remove(session: Path) -> None:
    """Removes a session, its lock last, so that what could not be removed stays ours."""
    with suppress(OSError):  # another command removes it, too
        for path in session.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()
        if [path.name for path in session.iterdir()] == [LOCK]:
            (session / LOCK).unlink()
            session.rmdir()
            latest = session.with_name("session_latest")
            if latest.readlink() == session:  # Ray replaces none that leads nowhere
                latest.unlink()


def _command_lines() -> Generator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield path.read_text(errors="replace")
