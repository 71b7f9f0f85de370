"""Evaluator: plays episodes for their score, beside the run and never in its way."""

from __future__ import annotations

import contextlib
import os

from dreamer_core.config import Config
from dreamer_core.envs import make_env
from dreamer_core.policy import ActionMode, Policy
from dreamer_core.rollout import evaluate_episode
from dreamer_core.types import Report, WeightsSnapshot
from services.logs import log_to_stderr


class Evaluator:
    """Plays whole episodes with the weights it is handed, in an environment of its own.

    Args:
        config: of the run.
        env_seed: of the environment; differs from the collector's.
    """

    def __init__(self, config: Config, env_seed: int) -> None:
        log_to_stderr("evaluator")
        with contextlib.suppress(OSError, AttributeError):  # where the system allows it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # training goes first
        self._env_seed = env_seed
        self._env = make_env(config.env, env_seed)
        self._policy = Policy(config, self._env.spec)
        self._num_episodes = 0

    def evaluate(
        self, weights: WeightsSnapshot, num_episodes: int, mode: ActionMode, policy_step: int
    ) -> Report:
        """Returns the mean return and length of some episodes.

        Args:
            weights: of the policy.
            num_episodes: to play.
            mode: how actions are chosen.
            policy_step: policy steps of the run when the weights were made.

        Raises:
            EnvironmentCrashed: the simulator failed; the supervisor replaces this actor.
        """
        self._policy.load(weights)
        summaries = [self._play(mode, policy_step) for _ in range(num_episodes)]
        return Report(
            service="evaluator",
            values={
                "dreamer_evaluation_return": sum(s.episode_return for s in summaries)
                / num_episodes,
                "dreamer_evaluation_length_policy_steps": sum(s.length for s in summaries)
                / num_episodes,
                "dreamer_evaluation_policy_steps": float(policy_step),
            },
            episodes=tuple(summaries),
            labels={"mode": mode, "weights_version": weights.version},
        )

    def _play(self, mode: ActionMode, policy_step: int):
        self._num_episodes += 1
        words = (self._env_seed, self._num_episodes)
        return evaluate_episode(
            self._env, self._policy, mode=mode, words=words, policy_step=policy_step
        ).summary
