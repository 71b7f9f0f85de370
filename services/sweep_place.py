"""What a run of a sweep takes of a node, and whether there is one that has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dreamer_core.config import Config

logger = logging.getLogger(__name__)

Nodes = Sequence[Mapping[str, Any]]
"""Of a cluster, as Ray lists them."""


def choose_gpus(asked: float | None, device: str, nodes: Nodes) -> float:
    """Returns the GPUs of each run: those asked for, or 1 if the cluster has any for it."""
    if asked is not None:
        return asked
    if device == "cpu":
        return 0
    has_gpu = any(_size(node, "GPU") for node in nodes)
    if not has_gpu:
        logger.warning(
            "Ray knows of no GPU, so the runs use CPUs; --gpus-per-run makes them wait for one"
        )
    return int(has_gpu)


def with_device(config: Config, num_gpus: float) -> Config:
    """Returns the config with a device that its share of the node has, instead of `auto`.

    A run that has a GPU must not train on the CPU because its node lacks a driver, and one that has
    none must not take a GPU that Ray has given to others.

    Raises:
        ValueError: CUDA is asked for, but no GPU.
    """
    device = config.learner.device
    if num_gpus == 0 and device == "cuda":
        raise ValueError(
            "learner.device=cuda, but the runs get no GPU from Ray and would all take the first "
            "one; add --gpus-per-run 1, or a part of 1"
        )
    if num_gpus > 0 and device == "cpu":
        logger.warning("The runs reserve GPUs that learner.device=cpu does not use")
    if device == "auto":
        device = "cuda" if num_gpus > 0 else "cpu"
    return replace(config, learner=replace(config.learner, device=device))


def has_room(nodes: Nodes, *, num_cpus: float, num_gpus: float) -> bool:
    """Whether a run fits on one of the nodes while that is empty."""
    return any(
        node["Alive"] and _size(node, "CPU") >= num_cpus and _size(node, "GPU") >= num_gpus
        for node in nodes
    )


def require_room(nodes: Nodes, *, num_cpus: float, num_gpus: float) -> None:
    """Refuses runs that would wait for ever.

    Raises:
        ValueError: no node is large enough for one.
    """
    if has_room(nodes, num_cpus=num_cpus, num_gpus=num_gpus):
        return
    found = ", ".join(
        f"{node.get('NodeManagerHostname', 'a node')} {_size(node, 'CPU'):g} CPUs and "
        f"{_size(node, 'GPU'):g} GPUs"
        for node in nodes
        if node["Alive"]
    )
    raise ValueError(
        f"Each run wants {num_cpus:g} CPUs and {num_gpus:g} GPUs of one node, and no node has "
        f"them: {found}. Lower --cpus-per-run or --gpus-per-run, start larger nodes or, if the "
        "cluster adds such nodes by itself, add --wait-for-nodes"
    )


def _size(node: Mapping[str, Any], resource: str) -> float:
    return node["Resources"].get(resource, 0.0) if node["Alive"] else 0.0
