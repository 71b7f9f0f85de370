"""The Ray cluster that a run is on: its own, or one that is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import ray

from services.config import RuntimeConfig


@contextmanager
def ray_cluster(runtime: RuntimeConfig, namespace: str) -> Generator[None]:
    """Connects to the configured cluster, or runs one that ends with the block."""
    local: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": max(4, os.cpu_count() or 1),
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
