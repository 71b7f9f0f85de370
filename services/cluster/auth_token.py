"""The token that guards Ray's ports: whoever has it can run code on the clusters of its user."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from dreamer_core.errors import naming

logger = logging.getLogger(__name__)


def keep_token_private() -> None:
    """Makes the token file that Ray would make, or finds it, readable for its owner alone.

    Whoever has the token can run code on the clusters of this user; Ray's own file would be
    readable for all. Where there is no home directory to keep it in, as for a user number that a
    container was given, the token is this process's own.

    Raises:
        BadInput: the file cannot be written. Failed: its disk is full.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    if not os.environ.get("RAY_AUTH_TOKEN_PATH") and not _has_home():
        logger.warning(
            "There is no home directory to keep Ray's token in: it lives as long as this command, "
            "and nobody can attach; to allow that, set RAY_AUTH_TOKEN here and there"
        )
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return
    path = _token_file()
    with naming(f"keep Ray's token in {path}", "Name another file with RAY_AUTH_TOKEN_PATH"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            close_token_to_others()
        else:
            with os.fdopen(file, "w") as new:
                new.write(secrets.token_hex(32))


def close_token_to_others() -> None:
    """Makes the token file readable for its owner alone.

    One of somebody else is theirs to mend, and one on a read-only file system nobody's.
    """
    with suppress(OSError, RuntimeError):  # RuntimeError: no home
        path = _token_file()
        mode = path.stat().st_mode
        if mode & 0o077:
            path.chmod(mode & ~0o077)


def _token_file() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def _has_home() -> bool:
    """Whether this user has a home directory in which files can be made, or were."""
    try:
        ray_files = Path.home() / ".ray"
    except RuntimeError:
        return False
    place = ray_files if ray_files.is_dir() else ray_files.parent
    return os.access(place, os.W_OK | os.X_OK)
