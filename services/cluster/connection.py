"""How a process joins a Ray cluster, or starts one of its own."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

logger = logging.getLogger(__name__)

_CONNECT_S = 10.0
NODE_ID_LABEL = "ray.io/node-id"
"""Label that Ray gives to every node."""


@contextmanager
def connected(
    address: str | None,
    *,
    namespace: str,
    object_store_bytes: int | None = None,
    num_cpus: int | None = None,
) -> Generator[None]:
    """Connects to the cluster at an address; without one, runs a cluster that ends with the block.

    Args:
        address: HOST:PORT of Ray's control store.
        namespace: of the names of actors.
        object_store_bytes: shared memory of a cluster that is started here; None: Ray chooses.
        num_cpus: that it has for Ray; None for those of this machine.

    Raises:
        ConnectionError: there is no cluster at the address that lets this machine in.
    """
    local: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": num_cpus,
        "object_store_memory": object_store_bytes,
    }
    if address is None:
        if os.environ["RAY_AUTH_MODE"] != "token":
            logger.warning(
                "RAY_AUTH_MODE=%s: whoever reaches Ray's ports on this machine can run code here; "
                "unset it, or set it to token",
                os.environ["RAY_AUTH_MODE"],
            )
        keep_token_private()
    try:
        _require_listener(address)
        ray.init(
            address=address or "local",
            namespace=namespace,
            logging_level=logging.ERROR,
            **({} if address else local),
        )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        if address is None:
            raise
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConnectionError(
            f"Wanted to join the Ray cluster at {address}, but {why}. This machine has to be a "
            "node of it, with its token in RAY_AUTH_TOKEN or ~/.ray/auth_token; if it is just "
            "starting or ending, try again"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Raises OSError where nothing listens at HOST:PORT, which Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()


def keep_token_private() -> None:
    """Makes the token file that Ray would make, or finds it, readable for its owner alone.

    Whoever has the token can run code on the clusters of this user; Ray's own file would be
    readable for all.

    Raises:
        OSError: the file cannot be written.
    """
    if "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        with suppress(PermissionError):  # somebody else's, who has to mend it
            path.chmod(path.stat().st_mode & ~0o077)
    else:
        with os.fdopen(file, "w") as new:
            new.write(secrets.token_hex(32))
