"""What Ray keeps of a cluster of one machine, /tmp/ray/session_..., and never deletes itself.

A lock in it says whose it is: it is held as long as the process lives that started the cluster.
Sessions without one are not ours, such as those of `ray start`, and are left alone. Ray lets every
user write to these directories, so nothing in them is believed that does not belong to this user,
and what is removed is reached from the open directory alone: no link leads out of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from dreamer_core.files import InUse, take_lock

LOCK = "dreamer.lock"


@contextmanager
def own_session(session: Path) -> Generator[None]:
    """Marks the session of a cluster that ends with the block; clears those of ended commands.

    A block that raises leaves its session, whose logs may tell why, until the next command.
    """
    for other in session.parent.glob("session_*"):
        with _opened(other) as directory:
            if directory is not None and other != session and _is_ended(directory, other.name):
                _remove(directory, other)
    try:
        lock = take_lock(session / LOCK)
    except (OSError, InUse):  # such as a full disk: it stays, as Ray would leave it
        yield
        return
    with lock:
        yield
        with _opened(session) as directory:
            if directory is not None:
                _remove(directory, session)


@contextmanager
def cleared_if_it_fails(ray_directory: Path) -> Generator[None]:
    """Marks what a cluster leaves that this process starts in the block and that does not come up.

    The next command clears it then, as it does what `own_session` has marked.
    """
    own = f"session_*_{os.getpid()}"  # so Ray calls them; the number may be another's of before
    before = set(ray_directory.glob(own))
    try:
        yield
    except BaseException:
        for session in set(ray_directory.glob(own)) - before:
            with suppress(OSError):
                os.close(os.open(session / LOCK, os.O_CREAT | os.O_EXCL, 0o600))
        raise


@contextmanager
def _opened(session: Path) -> Generator[int | None]:
    """Yields the descriptor of a directory of this user's; None for anything else."""
    directory = None
    with suppress(OSError):  # no directory, a link, or nobody may read it
        directory = os.open(session, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        is_own = directory is not None and os.fstat(directory).st_uid == os.geteuid()
        yield directory if is_own else None
    finally:
        if directory is not None:
            os.close(directory)


def _is_ended(directory: int, name: str) -> bool:
    """Whether a session is of a command of ours that has ended, with all of its processes.

    A command that was killed may leave processes behind for some seconds.
    """
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:  # it has no lock
        return False
    try:
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return False
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held
        return False
    finally:
        os.close(lock)
    return not any(name in line for line in _command_lines())


def _remove(directory: int, session: Path) -> None:
    """Removes a session, its lock last, so that what could not be removed stays ours."""
    with suppress(OSError):  # another command removes it, too
        for name in os.listdir(directory):
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                shutil.rmtree(name, ignore_errors=True, dir_fd=directory)
            elif name != LOCK:
                os.unlink(name, dir_fd=directory)
        if os.listdir(directory) == [LOCK]:
            os.unlink(LOCK, dir_fd=directory)
            session.rmdir()
            latest = session.with_name("session_latest")
            if latest.readlink() == session:  # Ray replaces none that leads nowhere
                latest.unlink()


def _command_lines() -> Generator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield path.read_text(errors="replace")
