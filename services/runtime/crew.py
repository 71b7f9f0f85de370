"""The services as Ray actors: started, asked with a time limit, found dead, replaced."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    RayError,
)

from dreamer_core.config import Config
from dreamer_core.replay.rewind import RewindTarget
from dreamer_core.run.rollout import env_seed
from dreamer_core.storage.run_directory import RunPaths
from dreamer_core.types import EnvSpec
from services.cluster.ray_errors import LOST, failed_to_start, reason
from services.runtime.config import RuntimeConfig
from services.runtime.placement import actor_options
from services.workers.collector import Collector
from services.workers.evaluator import Evaluator
from services.workers.exchange import Exchange
from services.workers.learner import Learner
from services.workers.replay_server import ReplayServer

EXCHANGE = "exchange"
"""Under which name evaluators of other jobs find the exchange, in the run's namespace."""
_REQUIRED = ("replay", "learner", "collector")
_PROBE_S = 3.0  # for answers that need no work; a process that is starved may take a while
_EVALUATOR_INCARNATION = 2**20  # keeps the evaluator's environment seed apart from collectors'


class ServiceLost(RuntimeError):
    """A service cannot start, dies without progress, or failed in a way that restarts won't mend.

    What was acknowledged and the last checkpoint are good: the run is resumable.
    """


class Actors:
    """Handles of the services, by name: replay, learner, collector, evaluator-0 and so on.

    Args:
        config: of the run.
        runtime: time limits.
        paths: of the run directory.
        spec: of the environment.
        is_lockstep: the run is to be resumed exactly.
    """

    def __init__(
        self,
        config: Config,
        runtime: RuntimeConfig,
        paths: RunPaths,
        spec: EnvSpec,
        *,
        is_lockstep: bool,
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._paths = paths
        self._spec = spec
        self._is_lockstep = is_lockstep
        self._handles: dict[str, Any] = {}

    def __getitem__(self, service: str) -> Any:
        return self._handles[service]

    def __contains__(self, service: str) -> bool:
        return service in self._handles

    # Names and paths go into constructors, never references to objects.

    def start_replay(self, target: RewindTarget | None = None) -> None:
        """Starts the replay server, taken back to `target` if that loses nothing."""
        self._handles["replay"] = (
            ray.remote(ReplayServer)
            .options(**self._options("replay"))
            .remote(
                self._config,
                self._spec,
                self._paths.replay.absolute(),
                is_rewindable=self._is_lockstep,
                target=target,
            )
        )

    def start_learner(self) -> None:
        """Starts the learner from the newest checkpoint, on a GPU if there is one for it."""
        make = ray.remote(Learner).options(**self._options("learner"))
        checkpoints = self._paths.checkpoints.absolute()
        self._handles["learner"] = make.remote(self._config, self._spec, checkpoints)

    def start_collector(self, incarnation: int) -> None:
        """Starts the collector's next life."""
        make = ray.remote(Collector).options(**self._options("collector"))
        self._handles["collector"] = make.remote(self._config, incarnation)

    def start_evaluator(self, name: str, index: int) -> None:
        """Starts one of the evaluators that belong to the run."""
        seed = env_seed(self._config.seed, _EVALUATOR_INCARNATION + index)
        make = ray.remote(Evaluator).options(**self._options("evaluator"))
        self._handles[name] = make.remote(self._config, seed)

    def start_exchange(self) -> None:
        """Starts the exchange, under its name."""
        make = ray.remote(Exchange).options(name=EXCHANGE, **self._options("exchange"))
        self._handles[EXCHANGE] = make.remote(self._config)

    def _options(self, service: str) -> dict[str, Any]:
        """Where the service may start, and what it takes there."""
        return actor_options(
            service,
            ray.nodes(),
            home=ray.get_runtime_context().get_node_id(),
            is_run_dir_shared=self._runtime.is_run_dir_shared,
            device=self._config.learner.device,
        )

    def get(self, reference: Any, timeout_s: float | None = None) -> Any:
        """Returns what a call gave, within the time limit of control calls unless told another."""
        return ray.get(reference, timeout=timeout_s or self._runtime.call_timeout_s)

    def ask(
        self, service: str, method: str, *arguments: Any, timeout_s: float | None = None
    ) -> Any:
        """Calls a service and waits for its answer.

        Raises:
            ServiceLost: it could not start, died, failed or kept silent; says why.
        """
        return self.answer(
            service, getattr(self[service], method).remote(*arguments), timeout_s=timeout_s
        )

    def answer(self, service: str, reference: Any, *, timeout_s: float | None = None) -> Any:
        """Waits for what was asked of a service.

        Raises:
            ServiceLost: as `ask`.
        """
        try:
            return self.get(reference, timeout_s)
        except RayError as error:
            did = "could not start" if failed_to_start(error) else "did not answer"
            raise ServiceLost(f"The {service} {did}: {reason(error)}") from error

    def dead(self) -> set[str]:
        """Returns the services that a run needs and that are gone, once each had time to answer."""
        return {name for name in _REQUIRED if name not in self or not self._is_alive(name)}

    def is_responsive(self, service: str) -> bool:
        """Whether a service that should be idle answers within seconds."""
        return self._is_alive(service, _PROBE_S)

    def kill(self, service: str) -> None:
        """Ends a service; a dead one is no matter."""
        handle = self._handles.pop(service, None)
        if handle is not None:
            ray.kill(handle)

    def kill_required(self) -> None:
        """Ends all but the evaluators."""
        for service in _REQUIRED:
            self.kill(service)

    def close(self) -> None:
        """Ends all of them."""
        for service in list(self._handles):
            self.kill(service)

    def _is_alive(self, service: str, timeout_s: float | None = None) -> bool:
        try:
            self.get(self[service].__ray_ready__.remote(), timeout_s)
        except (*LOST, GetTimeoutError):
            return False
        return True
