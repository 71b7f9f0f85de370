"""On which node of a Ray cluster each service starts, and what it takes of it.

A node gets a role when it joins: `ray start --labels dreamer-role=collector`, or replay, learner,
evaluator.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamer_core.errors import BadInput
from services.cluster.connection import NODE_ID_LABEL, NoCluster

logger = logging.getLogger(__name__)

ROLE_LABEL = "dreamer-role"
_USE_RUN_DIR = ("replay", "learner")
_ROLES_POLL_S = 0.5
_TAKE_NO_CPU = ("replay", "exchange")


def actor_options(
    service: str,
    nodes: Sequence[Mapping[str, Any]],
    *,
    home: str,
    is_run_dir_shared: bool,
    device: str,
) -> dict[str, Any]:
    """Returns the options of a service's actor: where it may start, what it takes there.

    What reads and writes the run directory stays with the supervisor, unless every node sees that
    directory. The exchange stays there too, so that no other node's end ends it. Everything else
    goes to a node with its role or, so that the run goes on when the last of those is gone or full,
    to any other.

    Args:
        service: replay, learner, collector, evaluator or exchange.
        nodes: of the cluster, as Ray lists them.
        home: id of the supervisor's node.
        is_run_dir_shared: see RuntimeConfig.
        device: see LearnerConfig.

    Raises:
        BadInput: the learner would wait for ever, since its node gives Ray no CPU.
        NoCluster: that node is gone.
    """
    is_bound = service == "exchange" or (service in _USE_RUN_DIR and not is_run_dir_shared)
    only_node = home if is_bound else None
    options = {"num_cpus": 0 if service in _TAKE_NO_CPU else 1, **_place(service, only_node)}
    if service == "learner":
        options["num_gpus"] = 0 if device == "cpu" else _num_gpus(nodes, only_node)
        _require_cpu(nodes, only_node)
    return options


def fits(wanted: Sequence[Mapping[str, Any]], free: Sequence[Mapping[str, float]]) -> bool:
    """Whether actors of these options fit on nodes all at once.

    Args:
        wanted: as `actor_options` returns them.
        free: what each node has left, by Ray's names of resources.
    """
    left = [dict(node) for node in free]
    for options in sorted(wanted, key=_num_gpus_of, reverse=True):
        needs = {"CPU": options["num_cpus"], "GPU": _num_gpus_of(options)}
        for node in left:
            if all(node.get(name, 0.0) >= amount for name, amount in needs.items()):
                node.update({name: node.get(name, 0.0) - needs[name] for name in needs})
                break
        else:
            return False
    return True


def guest_options(home: str) -> dict[str, Any]:
    """Returns the options of an evaluator of another job: on a node for evaluators, or at home.

    Args:
        home: id of that job's node.
    """
    return {
        "num_cpus": 0,
        "label_selector": {ROLE_LABEL: "evaluator"},
        "fallback_strategy": [{"label_selector": {NODE_ID_LABEL: home}}],
    }


def await_roles(
    roles: Sequence[str],
    nodes: Callable[[], Sequence[Mapping[str, Any]]],
    patience_s: float = 60.0,
) -> None:
    """Waits until the cluster has a node of each role; goes on without, with a warning.

    Args:
        roles: as nodes are labelled.
        nodes: returns those of the cluster, as Ray lists them.
        patience_s: longest wait.
    """
    give_up_s = time.monotonic() + patience_s
    is_told = False
    while missing := set(roles) - _roles(nodes()):
        if not is_told:
            logger.info("Waiting for a node of the role %s", ", ".join(sorted(missing)))
            is_told = True
        if time.monotonic() >= give_up_s:
            logger.warning("Started without it: its services start on other nodes, and stay there")
            return
        time.sleep(_ROLES_POLL_S)


def _roles(nodes: Sequence[Mapping[str, Any]]) -> set[str]:
    return {node.get("Labels", {}).get(ROLE_LABEL, "") for node in nodes if node["Alive"]}


def _place(service: str, only_node: str | None) -> dict[str, Any]:
    if only_node is not None:
        return {"label_selector": {NODE_ID_LABEL: only_node}}
    return {
        "label_selector": {ROLE_LABEL: service},
        "fallback_strategy": [{"label_selector": {ROLE_LABEL: f"!{service}"}}],
    }


def _num_gpus_of(options: Mapping[str, Any]) -> float:
    return options.get("num_gpus", 0)


def _num_gpus(nodes: Sequence[Mapping[str, Any]], only_node: str | None) -> int:
    """1 if a node where the learner may start has a GPU."""
    owners = {node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("GPU")}
    if owners and only_node is not None and only_node not in owners:
        logger.warning("No GPU is used: the cluster's is not on the run directory's node")
        return 0
    return int(bool(owners))


def _require_cpu(nodes: Sequence[Mapping[str, Any]], only_node: str | None) -> None:
    for node in nodes:
        if node["NodeID"] == only_node and not node["Alive"]:
            raise NoCluster(
                "Ray on the machine of the run directory was ended. Start it again, and then the "
                "same command, which resumes the run"
            )
        if node["NodeID"] == only_node and node["Resources"].get("CPU", 0) < 1:
            raise BadInput(
                "The learner wants a CPU of the node that holds the run directory, but Ray has "
                "none there. Start that node with --num-cpus 1 or more or, if every node sees the "
                "directory, add --runtime.is-run-dir-shared"
            )
