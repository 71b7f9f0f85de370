"""The Ray cluster that a run is on: its own, or one that is there."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from services.runtime.config import ServiceConfig

logger = logging.getLogger(__name__)

_CONNECT_S = 10.0
_OTHERS = 3  # processors that learner, collector and supervisor ask for


@contextmanager
def ray_cluster(services: ServiceConfig, namespace: str) -> Generator[None]:
    """Connects to the configured cluster, or runs one that ends with the block."""
    runtime = services.runtime
    with connected(
        runtime.ray_address,
        namespace=namespace,
        num_cpus=max(os.cpu_count() or 1, _OTHERS + services.evaluator.count),
        object_store_bytes=runtime.object_store_bytes,
    ):
        yield


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


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """How another process joins the cluster of a run."""

    gcs: str
    """HOST:PORT of Ray's control store."""
    namespace: str
    """Where the run's actors have their names."""


def node_address() -> str:
    """Returns the IP address at which the cluster knows this machine."""
    return ray.util.get_node_ip_address()


def write_address(paths: RunPaths) -> None:
    """Tells in the run directory where the cluster of this run is."""
    context = ray.get_runtime_context()
    address = ClusterAddress(gcs=context.gcs_address, namespace=context.namespace)
    paths.cluster.write_text(json.dumps(asdict(address)) + "\n")


def forget_address(paths: RunPaths) -> None:
    """Tells that the cluster of this run is about to go."""
    with suppress(OSError):  # a disk that takes no writes is told elsewhere
        paths.cluster.unlink(missing_ok=True)


def read_address(paths: RunPaths) -> ClusterAddress:
    """Returns where the cluster of the run is that trains in a directory.

    Raises:
        RunDirectoryError: nobody has told; `dreamer local` has none.
    """
    try:
        return ClusterAddress(**json.loads(paths.cluster.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunDirectoryError(
            f"Wanted the address of the run's cluster in {paths.cluster}, but {error}. Runs of "
            "`dreamer local` have no cluster; one of `dreamer train` writes it when it starts"
        ) from error
