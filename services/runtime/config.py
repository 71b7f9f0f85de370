"""Settings of the runtime: where the services run and how they are watched, not what is learned."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from dreamer_core.errors import BadInput
from dreamer_core.fields import require_types
from services.cluster.cluster_address import require_address
from services.prometheus.config import MetricsConfig

_LONGEST_S = 1e8  # three years
_LIMITS = (
    "call_timeout_s",
    "first_step_timeout_s",
    "collect_timeout_s",
    "evaluation_timeout_s",
)


def _awaited_roles() -> tuple[str, ...]:
    return tuple(role for role in os.environ.get("DREAMER_AWAIT_ROLES", "").split(",") if role)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Ray, and how much is under way at once."""

    ray_address: str | None = None
    """Cluster to run on, HOST:PORT or `auto`; None starts one in this process that ends with
    it."""
    await_roles: tuple[str, ...] = field(default_factory=_awaited_roles)
    """Roles of nodes (`ray start --labels dreamer-role=collector`) that the start waits for, a
    minute at most, since a service stays where it started; by default what the variable
    DREAMER_AWAIT_ROLES names, with commas between."""
    is_run_dir_shared: bool = False
    """Whether every node sees the run directory under the same path. If not, replay server and
    learner stay on the node of this process, which then needs the GPU."""
    object_store_bytes: int = 512_000_000
    """Shared memory of the cluster started here: a few batches and weights in flight."""
    learner_calls_in_flight: int = 4
    """Gradient steps handed to the learner ahead of time, so that it need not wait."""
    call_timeout_s: float = 300.0
    """Longest wait for an answer or a gradient step before the service counts as lost."""
    first_step_timeout_s: float = 1800.0
    """The same for a learner's first gradient step, which compiles on a card; where call_timeout_s
    is longer, that counts."""
    collect_timeout_s: float = 120.0
    """Longest collect call, environment included, before the collector is replaced."""
    evaluation_timeout_s: float = 3600.0
    """Longest evaluation before the evaluator is ended; the next evaluation starts another."""
    max_fruitless_restarts: int = 3
    """Restarts without a step of progress between them, after which the run gives up."""

    def __post_init__(self) -> None:
        require_types(self)
        if self.ray_address is not None:
            require_address(self.ray_address)
        for name in ("object_store_bytes", "learner_calls_in_flight", *_LIMITS):
            if getattr(self, name) <= 0:
                raise BadInput(f"{name}={getattr(self, name)} must be above 0")
        for name in _LIMITS:
            if getattr(self, name) > _LONGEST_S:
                raise BadInput(f"{name}={getattr(self, name)} must be {_LONGEST_S:g} or less")
        if self.object_store_bytes < 80_000_000:
            raise BadInput(
                f"object_store_bytes={self.object_store_bytes} is below the 80000000 that "
                "Ray needs; raise it"
            )
        if self.max_fruitless_restarts < 0:
            raise BadInput(
                f"max_fruitless_restarts={self.max_fruitless_restarts} must be 0 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """Everything about a run that does not change what it learns, but for `lockstep`."""

    lockstep: bool = False
    """Collect and train in strict alternation: the same seed gives the same losses."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    evaluators: int = 1
    """Each plays its episodes whenever an evaluation falls due (--evaluation.*); they get what
    processor time is left over."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        require_types(self)
        if self.evaluators < 1:
            raise BadInput(
                f"evaluators={self.evaluators} must be 1 or more; --evaluation.interval-frames "
                "None has none play"
            )
