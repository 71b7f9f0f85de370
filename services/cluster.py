"""The Ray cluster that a run is on: its own, or one that is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import ray

from services.config import ServiceConfig

_OTHERS = 3  # processors that learner, collector and supervisor ask for


@contextmanager
def ray_cluster(services: ServiceConfig, namespace: str) -> Generator[None]:
    """Connects to the configured cluster, or runs one that ends with the block."""
    runtime = services.runtime
    local: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": max(os.cpu_count() or 1, _OTHERS + services.evaluator.count),
        "object_store_memory": runtime.object_store_bytes,
    }
    ray.init(
        address=runtime.ray_address or "local",
        namespace=namespace,
        logging_level=logging.ERROR,
        **({} if runtime.ray_address else local),
    )
    try:
        yield
    finally:
        ray.shutdown()
