"""Notices that Ray on a machine of the cluster is about to end, or has ended.

`ray start --block` that gets SIGTERM has its node drained for 30 s (Ray's variable
RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S) before it ends Ray's processes; so does an autoscaler that
takes a machine away, and `ray drain-node`. A node that is drained takes no new actor, and those
that it has live until it ends. A head whose control store is gone takes its cluster along once Ray
gives up, after a minute (RAY_gcs_rpc_server_reconnect_timeout_s). Each leaves time for a
checkpoint, if it is noticed at once.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.core.generated import autoscaler_pb2  # pyright: ignore[reportMissingTypeStubs]
from ray.exceptions import AuthenticationError, RayError

logger = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_CONNECT_S = 2.0
_UNREACHABLE_S = 10.0  # a cable may be out for a moment
_HEAD = "node:__internal_head__"  # resource that Ray gives the head


@dataclass(slots=True)
class Leaving:
    """Looks which nodes are about to end; `why` says what it saw of those that must not.

    Args:
        connect: raises OSError where the head's control store does not answer.
        draining: returns the ids of nodes that are being drained; raises AuthenticationError where
            the control store is another cluster's.
        nodes: ids of those without which there is no run: this one and the head.
        now_s: seconds on a clock that never goes back.
    """

    connect: Callable[[], None]
    draining: Callable[[], set[str]]
    nodes: frozenset[str]
    now_s: Callable[[], float] = monotonic
    why: str | None = None
    """Once Ray here, or the head, is about to end."""
    drained: frozenset[str] = frozenset()
    """Ids of the nodes that are being drained."""
    _silent_since_s: float | None = None
    _refusals: int = 0

    def or_end(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """Returns `should_stop`, true as well once Ray here, or the head, is about to end."""
        return lambda: should_stop() or self.why is not None

    def look(self) -> None:
        """Looks once."""
        try:
            self.connect()
        except OSError as error:
            self._take_silence(error)
            return
        self._silent_since_s, self._refusals = None, 0
        try:
            self.drained = frozenset(self.draining())
            if self.nodes & self.drained:
                self.why = "the Ray node of this run was told to end"
        except AuthenticationError:
            self.why = "the head of the Ray cluster was replaced"

    def _take_silence(self, error: OSError) -> None:
        """Refused twice, nobody is there any more; anything else may pass."""
        now_s = self.now_s()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        self._refusals += isinstance(error, ConnectionRefusedError)
        if self._refusals > 1 or now_s - self._silent_since_s >= _UNREACHABLE_S:
            self.why = f"the head of the Ray cluster does not answer ({error})"


@contextmanager
def leaving() -> Generator[Leaving]:
    """Yields what a thread sees of the nodes, since a cluster that is gone keeps others waiting.

    This process has to be connected to its cluster.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    own = ray.get_runtime_context().get_node_id()
    heads = {node["NodeID"] for node in ray.nodes() if _HEAD in node["Resources"]}

    def connect() -> None:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()

    seen = Leaving(connect, _draining, frozenset({own, *heads}))
    is_over = threading.Event()

    def follow() -> None:
        while not is_over.wait(_INTERVAL_S) and seen.why is None:
            try:
                seen.look()
            except RayError as error:
                logger.debug("Ray does not say which nodes are drained: %s", error)
        if seen.why is not None:
            logger.warning(
                "Stopping, since %s; a checkpoint is written if it still can be", seen.why
            )

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join(2 * _CONNECT_S)  # it may wait for both answers


def _draining() -> set[str]:
    """Ids of the nodes that are being drained.

    Not by Ray's own `state.get_draining_nodes`, which aborts this process where the control store
    is another cluster's: a head that was started again at once.

    Raises:
        AuthenticationError: it is another cluster's.
        RayError: it does not say.
    """
    messages: Any = autoscaler_pb2
    worker: Any = global_worker
    reply = messages.GetClusterResourceStateReply()
    reply.ParseFromString(worker.gcs_client.get_cluster_resource_state(_CONNECT_S))
    nodes = reply.cluster_resource_state.node_states
    return {node.node_id.hex() for node in nodes if node.status == messages.NodeStatus.DRAINING}
