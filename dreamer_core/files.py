"""Files that are whole or not there, and locks that name who holds them.

A file is written under a temporary name, flushed to the disk and renamed, and the rename is
flushed: a kill or a power cut at any point leaves what was there before or all of what is new.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO
from zipfile import BadZipFile

LOCK_PATIENCE_S = 0.5
"""How long a lock is waited for: `lock_holder` takes it for a moment too."""

NPZ_ERRORS = (
    *(OSError, EOFError, BadZipFile, zlib.error, TokenError, MemoryError),
    *(ValueError, AttributeError, RuntimeError),  # no .npz, pickles; encrypted, other compression
)
"""What numpy raises for an .npz file, or an array of it, that is damaged or something else."""


class InUse(Exception):
    """Another process holds a lock; the message is its name, `process N on HOST`."""


@contextmanager
def whole_file(path: Path, temporary: Path | None = None) -> Generator[BinaryIO]:
    """Opens a file that takes its name when the block ends, replacing what had it.

    Args:
        path: of the file; its directory exists.
        temporary: in the same directory, of the file until it is whole; `temporary_of(path)` if
            None. A kill may leave it.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    temporary = temporary or temporary_of(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush_directory(path.parent)


def write_whole(path: Path, content: bytes, temporary: Path | None = None) -> None:
    """Writes a file; see `whole_file`."""
    with whole_file(path, temporary) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON; see `whole_file`."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def temporary_of(path: Path) -> Path:
    """The name of a file until it is whole: its own and `.tmp`."""
    return path.with_name(f"{path.name}.tmp")


def make_directory(directory: Path) -> None:
    """Makes a directory, and those above it, so that their names survive a power cut."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Flushes the names in a directory, so that a rename survives a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def take_lock(path: Path) -> IO[str]:
    """Takes a lock until the file that is returned is closed, and writes this process's name in it.

    Raises:
        InUse: another process has it.
        OSError: the file cannot be opened or written.
    """
    lock = path.open("a+")
    try:
        wait_for_lock(lock.fileno(), LOCK_PATIENCE_S)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
    except BlockingIOError as error:
        lock.seek(0)
        with lock:
            raise InUse(lock.read().strip() or "another process") from error
    except OSError:
        lock.close()
        raise
    return lock


def lock_holder(path: Path) -> str | None:
    """Who holds a lock now, as `process N on HOST`; None if nobody does."""
    if not path.exists():
        return None
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return lock.read().strip()
    return None


def wait_for_lock(fd: int, patience_s: float) -> None:
    """Locks an open file or directory until it is closed.

    Raises:
        BlockingIOError: another had it for all of `patience_s`.
    """
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_s:
                raise
        time.sleep(0.05)
