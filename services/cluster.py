"""The Ray cluster that a run is on: its own, or one that is there."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import ray

from dreamer_core.run_directory import RunDirectoryError, RunPaths
from services.config import ServiceConfig

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
    object_store_bytes: int,
    num_cpus: int | None = None,
) -> Generator[None]:
    """Connects to the cluster at an address; without one, runs a cluster that ends with the block.

    Args:
        address: HOST:PORT of Ray's control store.
        namespace: of the names of actors.
        object_store_bytes: shared memory of a cluster that is started here.
        num_cpus: that it has for Ray; None for those of this machine.
    """
    local: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": num_cpus,
        "object_store_memory": object_store_bytes,
    }
    ray.init(
        address=address or "local",
        namespace=namespace,
        logging_level=logging.ERROR,
        **({} if address else local),
    )
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """How another process joins the cluster of a run."""

    gcs: str
    """HOST:PORT of Ray's control store."""
    namespace: str
    """Where the run's actors have their names."""


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
