"""Collector: steps the single environment with the newest policy it was handed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dreamer_core.config import Config
from dreamer_core.envs.suites import make_env
from dreamer_core.report.report import Report
from dreamer_core.run.rollout import Rollout
from dreamer_core.run.schedule import CollectOrder
from dreamer_core.seeds import env_seed
from dreamer_core.types import EnvSpec, EpisodeChunk, WeightsSnapshot
from services.cluster.signals import hear_sigterm
from services.logs import log_to_stderr


class Collector:
    """Returns what happened in the environment.

    Holds no handle to any other service: weights come in as an argument, chunks go out as the
    return value, and the supervisor connects the two.

    Args:
        config: of the run.
        spec: of its environment.
        incarnation: which life of the collector this is.

    Raises:
        UnknownTask, UnsupportedEnvironment, EnvironmentCrashed: see `make_env`.
    """

    def __init__(self, config: Config, spec: EnvSpec, incarnation: int) -> None:
        log_to_stderr("collector")
        hear_sigterm()
        self._env = make_env(config.env, env_seed(config.seed, incarnation), spec)
        self._rollout = Rollout(self._env, config, incarnation)
        self._idle_since_s: float | None = None
        self._wait_s = 0.0

    def state(self) -> dict[str, Any] | None:
        """Where the rollout stands; None if the environment cannot tell. See Rollout.state."""
        return self._rollout.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken; see Rollout.restore."""
        self._rollout.restore(state)

    def collect(
        self, weights: WeightsSnapshot | None, order: CollectOrder, policy_step: int
    ) -> tuple[list[EpisodeChunk], Report]:
        """Takes the ordered number of policy steps.

        Args:
            weights: of the policy; None only for random play.
            order: how many steps, and whether at random.
            policy_step: policy steps of the run before this call.

        Raises:
            EnvironmentCrashed: the simulator failed; the supervisor replaces this actor.
        """
        if self._idle_since_s is not None:
            self._wait_s += time.monotonic() - self._idle_since_s
        collected = self._rollout.run(
            order.num_policy_steps,
            policy_step=policy_step,
            weights=None if order.is_random else weights,
        )
        self._idle_since_s = time.monotonic()
        waited = {"dreamer_insert_wait_seconds_total": self._wait_s}
        return collected.chunks, Report(
            service="collector",
            values=waited | self._rollout.seconds(),
            episodes=collected.episodes,
        )

    def close(self) -> None:
        """Closes the environment; no call may follow.

        Raises:
            EnvironmentCrashed: it failed over that, or took too long.
        """
        self._env.close()
