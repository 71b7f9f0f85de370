"""What a run of a sweep takes of a node, and whether there is one that has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from services.sweep.plan import RunKey

logger = logging.getLogger(__name__)

_FAILURES_IN_A_ROW = 3  # of different runs, after which a node is set aside

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
        BadInput: CUDA is asked for, but no GPU.
    """
    device = config.learner.device
    if num_gpus == 0 and device == "cuda":
        raise BadInput(
            "learner.device=cuda, but the runs get no GPU from Ray and would all take the first "
            "one; add --gpus-per-run 1, or a part of 1"
        )
    if num_gpus > 0 and device == "cpu":
        logger.warning("The runs reserve GPUs that learner.device=cpu does not use")
    if device == "auto":
        device = "cuda" if num_gpus > 0 else "cpu"
    return replace(config, learner=replace(config.learner, device=device))


def with_processes(config: Config, num_cpus: float) -> Config:
    """Returns the config with no more processes of the learner than a run has CPUs for.

    Several runs side by side get more done than as many processes of each, which wait for one
    another.
    """
    learner = config.learner
    fitting = max(1, int(num_cpus // learner.num_threads))
    if fitting < learner.num_processes:
        logger.info(
            "%g CPUs a run: learner.num_processes is %d instead of %d; --cpus-per-run raises it",
            num_cpus,
            fitting,
            learner.num_processes,
        )
    processes = min(learner.num_processes, fitting)
    return replace(config, learner=replace(learner, num_processes=processes))


def has_room(nodes: Nodes, *, num_cpus: float, num_gpus: float) -> bool:
    """Whether a run fits on one of the nodes while that is empty."""
    return any(
        node["Alive"] and _size(node, "CPU") >= num_cpus and _size(node, "GPU") >= num_gpus
        for node in nodes
    )


def require_room(nodes: Nodes, *, num_cpus: float, num_gpus: float) -> None:
    """Refuses runs that would wait for ever.

    Raises:
        BadInput: no node is large enough for one.
    """
    if has_room(nodes, num_cpus=num_cpus, num_gpus=num_gpus):
        return
    found = ", ".join(
        f"{node.get('NodeManagerHostname', 'a node')} {_size(node, 'CPU'):g} CPUs and "
        f"{_size(node, 'GPU'):g} GPUs"
        for node in nodes
        if node["Alive"]
    )
    raise BadInput(
        f"Each run wants {num_cpus:g} CPUs and {num_gpus:g} GPUs of one node, and no node has "
        f"them: {found}. Lower --cpus-per-run or --gpus-per-run, start larger nodes or, if the "
        "cluster adds such nodes by itself, add --wait-for-nodes"
    )


class NodeRecord:
    """What went wrong on which node, and so where no run is started.

    Args:
        num_cpus: of a node, that each run takes.
        num_gpus: the same.
    """

    def __init__(self, *, num_cpus: float, num_gpus: float) -> None:
        self._num_cpus, self._num_gpus = num_cpus, num_gpus
        self._blind: list[str] = []
        self._set_aside: list[str] = []
        self._failed_on: dict[RunKey, list[str]] = {}  # nodes, the newest last
        self._in_a_row: dict[str, set[RunKey]] = {}  # runs that failed on a node one after another

    def add_blind(self, node_id: str) -> bool:
        """Leaves out a node that does not see the directory; returns whether that is news."""
        is_new = node_id not in self._blind
        if is_new:
            self._blind.append(node_id)
        return is_new

    def add_done(self, node_id: str) -> None:
        """A run was trained to its end on a node, so that nothing is wrong with it."""
        self._in_a_row.pop(node_id, None)

    def add_failure(self, key: RunKey, node_id: str, name: str, nodes: Nodes) -> None:
        """A run failed on a node: it tries others, and several of them set the node aside."""
        self._failed_on.setdefault(key, []).append(node_id)
        failed = self._in_a_row.setdefault(node_id, set())
        failed.add(key)
        if len(failed) < _FAILURES_IN_A_ROW or node_id in self._set_aside:
            return
        if self._has_room(nodes, [*self._blind, *self._set_aside, node_id]):
            logger.warning(
                "Node %s is set aside: %d different runs failed there in a row", name, len(failed)
            )
            self._set_aside.append(node_id)

    def has_room(self, nodes: Nodes) -> bool:
        """Whether a node that sees the directory is large enough for a run."""
        return self._has_room(nodes, self._blind)

    def avoided_by(self, key: RunKey, nodes: Nodes) -> tuple[str, ...]:
        """Returns the ids of the nodes on which a run is not to start.

        Where it failed before is among them only while another node is large enough.
        """
        own = self._failed_on.get(key, [])
        for oldest in range(len(own) + 1):
            avoided = [*self._blind, *self._set_aside, *own[oldest:]]
            if self._has_room(nodes, avoided):
                return tuple(dict.fromkeys(avoided))
        return tuple(self._blind)

    def _has_room(self, nodes: Nodes, avoided: Sequence[str]) -> bool:
        left = [node for node in nodes if node["NodeID"] not in avoided]
        return has_room(left, num_cpus=self._num_cpus, num_gpus=self._num_gpus)


def _size(node: Mapping[str, Any], resource: str) -> float:
    return node["Resources"].get(resource, 0.0) if node["Alive"] else 0.0
