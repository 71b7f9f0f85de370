"""Ray as the host of the services: the one place where they become actors."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any

import ray
from ray._private.state import actors, available_resources_per_node
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from dreamer_core.config import Config
from dreamer_core.replay.rewind import RewindTarget
from dreamer_core.seeds import EVALUATOR_INCARNATION, env_seed
from dreamer_core.storage.run_directory import RunPaths
from dreamer_core.types import EnvSpec
from services.cluster.closing import close_all, is_canceled
from services.cluster.ray_errors import LOST, failed_to_start, reason, start_error
from services.runtime.calls import (
    CallFailed,
    ClusterFailed,
    Lost,
    NotStarted,
    Raised,
    Silent,
)
from services.runtime.crew import EXCHANGE
from services.runtime.placement import actor_options, fits
from services.workers.collector import Collector
from services.workers.evaluator import Evaluator
from services.workers.exchange import Exchange
from services.workers.learner import Learner
from services.workers.replay_server import ReplayServer


class RayHost:
    """Starts the services of a run on the Ray cluster that this process is connected to; a Host.

    Args:
        config: of the run.
        paths: of the run directory.
        spec: of the environment.
        is_run_dir_shared: see RuntimeConfig.
        is_lockstep: the run is to be resumed exactly.
        drained_nodes: returns the ids of nodes that are about to end.
    """

    def __init__(
        self,
        config: Config,
        paths: RunPaths,
        spec: EnvSpec,
        *,
        is_run_dir_shared: bool,
        is_lockstep: bool,
        drained_nodes: Callable[[], Set[str]],
    ) -> None:
        self._config = config
        self._paths = paths
        self._spec = spec
        self._is_run_dir_shared = is_run_dir_shared
        self._is_lockstep = is_lockstep
        self._drained_nodes = drained_nodes
        self._handles: dict[str, Any] = {}
        self._places: dict[str, str] = {}  # id of the node of each that is known to be up
        self._evaluations: dict[str, Any] = {}  # reference to the newest of each evaluator

    def now_s(self) -> float:
        """See Host."""
        return time.monotonic()

    def start(self, service: str, *arguments: Any) -> None:
        """See Host. Names and paths go into constructors, never references to objects."""
        config, paths = self._config, self._paths
        match service.partition("-")[0]:
            case "replay":
                target: RewindTarget | None = arguments[0] if arguments else None
                replay = paths.replay.absolute()
                made = self._actor("replay", ReplayServer).remote(
                    config, self._spec, replay, is_rewindable=self._is_lockstep, target=target
                )
            case "learner":
                checkpoints = paths.checkpoints.absolute()
                made = self._actor("learner", Learner).remote(config, self._spec, checkpoints)
            case "collector":
                made = self._actor("collector", Collector).remote(config, self._spec, *arguments)
            case "exchange":
                made = self._actor("exchange", Exchange, name=EXCHANGE).remote(config)
            case _:
                seed = env_seed(config.seed, EVALUATOR_INCARNATION + arguments[0])
                limit = config.evaluation.episode_limit
                made = self._actor("evaluator", Evaluator).remote(
                    config, seed, is_canceled, limit, self._spec
                )
        self._handles[service] = made
        self._places.pop(service, None)  # of its life before

    def call(self, service: str, verb: str, *arguments: Any, num_results: int = 1) -> Any:
        """See Host."""
        method = getattr(self._handles[service], verb)
        if num_results > 1:
            method = method.options(num_returns=num_results)
        made = method.remote(*arguments)
        if verb == "evaluate":
            self._evaluations[service] = made
        return made

    def get(self, reference: Any, timeout_s: float) -> Any:
        """See Host."""
        try:
            return ray.get(reference, timeout=timeout_s)
        except RayError as error:
            raise _told(error, self._suspect(error)) from error

    def wait(self, references: Sequence[Any], timeout_s: float) -> Any | None:
        """See Host."""
        if not references:
            time.sleep(timeout_s)
            return None
        ready, _ = ray.wait(list(references), num_returns=1, timeout=timeout_s)
        return ready[0] if ready else None

    def has(self, service: str) -> bool:
        """See Host."""
        return service in self._handles

    def drained(self) -> set[str]:
        """See Host. Where an actor is that is not up yet is known once it is."""
        nodes = self._drained_nodes()
        return {name for name in self._handles if nodes and self._place(name) in nodes}

    def has_room(self, services: Sequence[str]) -> bool:
        """See Host. What has a GPU has room only where another is free."""
        drained = self._drained_nodes()
        free = available_resources_per_node()
        left = [resources for node, resources in free.items() if node not in drained]
        return fits([self._options(service, ray.nodes()) for service in services], left)

    def kill(self, service: str) -> None:
        """See Host."""
        handle = self._handles.pop(service, None)
        if handle is not None:
            ray.kill(handle)

    def end(self, services: Collection[str]) -> None:
        """See Host. What an evaluator plays is given up first."""
        owners = list(filter(_has_environment, services))
        close_all(
            {name: self._handles[name] for name in owners if self.has(name)},
            [self._evaluations.pop(name) for name in owners if name in self._evaluations],
        )
        for service in services:
            self.kill(service)

    def _place(self, service: str) -> str:
        """Id of the node on which a service is, as Ray's control store has it; "" before it is up.

        The actor itself is not asked: where an evaluation waits behind that question while the
        actor starts, Ray cannot cancel it.
        """
        if service not in self._places:
            found: Any = actors(self._handles[service]._actor_id.hex())  # noqa: SLF001
            if found.get("State") != "ALIVE":
                return ""
            self._places[service] = found["Address"]["NodeID"]
        return self._places[service]

    def _suspect(self, error: RayError) -> str:
        """What may have ended an actor, after the reason that Ray has: most have code of ours."""
        dead: str | None = getattr(error, "actor_id", None)
        for name in filter(_has_environment, self._handles):
            if dead is not None and self._handles[name]._actor_id.hex() == dead:  # noqa: SLF001
                task = self._config.env.task
                return f". It was the {name}, and the environment {task} may have ended it"
        return ""

    def _actor(self, service: str, kind: type, **options: Any) -> Any:
        """The actor class of a service: where it may start, and what it takes there."""
        drained = self._drained_nodes()
        nodes = [node for node in ray.nodes() if node["NodeID"] not in drained]
        return ray.remote(kind).options(**options, **self._options(service, nodes))

    def _options(self, service: str, nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return actor_options(
            service.partition("-")[0],
            nodes,
            home=ray.get_runtime_context().get_node_id(),
            is_run_dir_shared=self._is_run_dir_shared,
            device=self._config.learner.device,
        )


def _has_environment(service: str) -> bool:
    return service.startswith(("collector", "evaluator"))


def _told(error: RayError, suspect: str) -> CallFailed:
    """What Ray's error means. A call that was handed a lost result is lost with that."""
    if failed_to_start(error):
        return NotStarted(reason(error), start_error(error))
    if isinstance(error, LOST):
        return Lost(reason(error) + suspect)
    if isinstance(error, GetTimeoutError):
        return Silent(reason(error))
    if isinstance(error, RayTaskError):
        cause: BaseException = error.cause
        if isinstance(cause, RayError):
            cause = ClusterFailed(reason(cause))
        return Raised(reason(error), cause)
    return ClusterFailed(reason(error))
