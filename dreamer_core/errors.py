"""The errors that somebody outside can do something about; anything else is a bug of ours.

    BadInput   what was asked for cannot be done: the message says what was wanted, what came and
               what to do; nothing was changed (exit code 2)
    Failed     what was begun could not be finished: what is stored is good, and the same command
               goes on from there (exit code 1)

A command tells these in one paragraph. Every other exception shows its trace (exit code 70). What
third parties raise becomes one of these where it is known what was wanted of them.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

BUG_EXIT = 70
"""Exit code of a command that met a bug."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk that is full."""
_OTHER_KIND = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


class DreamerError(Exception):
    """Root of the errors whose message is meant for the user."""

    exit_code: int
    """Of a command that it ends."""


class BadInput(DreamerError, ValueError):
    """The user can mend it: a setting, a name, a path, an environment."""

    exit_code = 2


class Failed(DreamerError, RuntimeError):
    """Something outside ended the work; it can be resumed."""

    exit_code = 1


class StorageFailed(OSError, Failed):
    """A disk, or a place of checkpoints, failed while there was work on it; `errno` says how."""


def first_line(error: Exception) -> str:
    """What an error of third parties says, without what follows; its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def remedy(error: OSError) -> str:
    """What may be done where the place of a run cannot be written, and what then goes on."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        to_do = "raise the limit (ulimit -n), or see which files the environment leaves open"
    elif error.errno in (errno.ENOENT, errno.ESTALE):
        to_do = "it was removed, renamed or unmounted while it was in use: put it back"
    else:
        to_do = "free disk space or make the place writable"
    return f"{to_do} and try again"


@contextmanager
def naming(wanted: str, to_do: str, refusal: type[BadInput] = BadInput) -> Generator[None]:
    """Turns an OSError over a path that the user named into words.

    Args:
        wanted: what was tried, after "Wanted to".
        to_do: what the user may do, a sentence without its full stop.
        refusal: kind of the BadInput.

    Raises:
        Failed: the disk is full.
        BadInput: the path cannot be used, for any other reason.
    """
    try:
        yield
    except DreamerError:
        raise
    except OSError as error:
        kind, reason = Failed if error.errno in NO_ROOM else refusal, error.strerror or error
        if error.errno == errno.EEXIST and error.filename and not Path(error.filename).exists():
            reason = f"{error.filename} is a link that leads nowhere"
        raise kind(f"Wanted to {wanted}, but {reason}. {to_do}") from error


@contextmanager
def refusing_other_kinds(place: str) -> Generator[None]:
    """Refuses a file where a directory belongs, or the reverse; other errors of `place` pass.

    Raises:
        BadInput: something of another kind lies there.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OTHER_KIND:
            raise
        raise BadInput(
            f"Wanted to open {place}, but {error.filename or place}: {error.strerror}. A file lies "
            "where a directory belongs, or the reverse; move it away, or name another place"
        ) from error
