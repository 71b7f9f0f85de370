"""The Ray cluster that a run is on: its own or one that is there, and how others join it."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import ray

from dreamer_core.errors import naming
from dreamer_core.files import write_json
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from services.cluster.connection import connected
from services.runtime.config import ServiceConfig

_OTHERS = 3  # processors that learner, collector and supervisor ask for


@contextmanager
def ray_cluster(services: ServiceConfig, namespace: str) -> Generator[None]:
    """Connects to the configured cluster, or runs one that ends with the block."""
    runtime = services.runtime
    with connected(
        runtime.ray_address,
        namespace=namespace,
        num_cpus=max(os.cpu_count() or 1, _OTHERS + services.evaluators),
        object_store_bytes=runtime.object_store_bytes,
    ):
        yield


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """How another process joins the cluster of a run."""

    gcs: str
    """HOST:PORT of Ray's control store."""
    namespace: str
    """Where the run's actors have their names."""


def write_address(paths: RunPaths) -> None:
    """Tells in the run directory where the cluster of this run is.

    Raises:
        BadInput: it cannot be written. Failed: the disk is full.
    """
    context = ray.get_runtime_context()
    address = ClusterAddress(gcs=context.gcs_address, namespace=context.namespace)
    with naming(f"write {paths.cluster}", "Make room, or mend its permissions"):
        write_json(paths.cluster, asdict(address))


def forget_address(paths: RunPaths) -> None:
    """Tells that the cluster of this run is about to go."""
    with suppress(OSError):  # a disk that takes no writes is told elsewhere
        paths.cluster.unlink(missing_ok=True)


def read_address(paths: RunPaths) -> ClusterAddress:
    """Returns where the cluster of the run is that trains in a directory.

    Raises:
        RunDirectoryError: nobody has told; `dreamer local` and `offline` have none.
    """
    try:
        return ClusterAddress(**json.loads(paths.cluster.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunDirectoryError(
            f"Wanted the address of the run's cluster in {paths.cluster}, but {error}. Runs of "
            "`dreamer local` and `offline` have none; `dreamer train` writes it when it starts"
        ) from error
