"""Evaluator: plays episodes for their score, beside the run and never in its way."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from dreamer_core.agent.policy import ActionMode, PolicyNetwork
from dreamer_core.config import EPISODE_LIMIT, Config
from dreamer_core.envs.suites import make_env
from dreamer_core.errors import Failed, naming
from dreamer_core.report.report import Report
from dreamer_core.report.video import save_episode
from dreamer_core.run.rollout import Evaluation, evaluate_episode
from dreamer_core.run.scoring import evaluation_report
from dreamer_core.types import EnvSpec, WeightsSnapshot
from services.cluster.signals import hear_sigterm
from services.logs import log_to_stderr


class GivenUp(Failed):
    """Whoever asked for an episode does not want it any more."""


class Evaluator:
    """Plays whole episodes with the weights it is handed, in an environment of its own.

    Args:
        config: of the run.
        env_seed: of the environment; differs from the collector's.
        is_given_up: asked between two policy steps; the episode ends then, without a result.
        episode_limit: policy steps after which an episode is cut off.
        spec: the sizes that the environment must have; None for any.

    Raises:
        UnknownTask, UnsupportedEnvironment, EnvironmentCrashed: see `make_env`.
    """

    def __init__(
        self,
        config: Config,
        env_seed: int,
        is_given_up: Callable[[], bool] = lambda: False,
        episode_limit: int = EPISODE_LIMIT,
        spec: EnvSpec | None = None,
    ) -> None:
        log_to_stderr("evaluator")
        hear_sigterm()
        with contextlib.suppress(OSError, AttributeError):  # where the system allows it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # training goes first
        self._env_seed = env_seed
        self._env = make_env(config.env, env_seed, spec)
        self._policy = PolicyNetwork(config, self._env.spec)
        self._is_given_up = is_given_up
        self._episode_limit = episode_limit
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
        played = [self._play(mode, policy_step).summary for _ in range(num_episodes)]
        return evaluation_report(played, weights.version, mode, policy_step)

    def play(
        self,
        weights: WeightsSnapshot,
        mode: ActionMode,
        policy_step: int,
        source: str,
        *,
        has_video: bool,
    ) -> tuple[Report, tuple[str, bytes] | None]:
        """Returns what one episode gave, and a video of it (suffix, content) if wanted.

        Args:
            weights: as in `evaluate`, as are mode and policy_step.
            mode: how actions are chosen.
            policy_step: policy steps of the run when the weights were made.
            source: LATEST, or the checkpoint of the weights.
            has_video: whether to film it.
        """
        self._policy.load(weights)
        played = self._play(mode, policy_step, has_frames=has_video)
        report = evaluation_report([played.summary], weights.version, mode, policy_step, source)
        if not has_video:
            return report, None
        to_do = "Make room there, or name another with TMPDIR"
        with (
            naming("film an episode in a temporary directory", to_do),
            tempfile.TemporaryDirectory() as directory,
        ):
            fps = self._env.frames_per_second / self._env.spec.frames_per_policy_step
            path = save_episode(Path(directory, "episode.mp4"), played.frames, fps).path
            return report, (path.suffix, path.read_bytes())

    def close(self) -> None:
        """Closes the environment; no call may follow.

        Raises:
            EnvironmentCrashed: it failed over that, or took too long.
        """
        self._env.close()

    def _play(self, mode: ActionMode, policy_step: int, *, has_frames: bool = False) -> Evaluation:
        self._num_episodes += 1
        return evaluate_episode(
            self._env,
            self._policy,
            mode=mode,
            words=(self._env_seed, self._num_episodes),
            policy_step=policy_step,
            has_frames=has_frames,
            on_step=self._go_on,
            limit=self._episode_limit,
        )

    def _go_on(self, _num_steps: int) -> None:
        if self._is_given_up():
            raise GivenUp("nobody waits for this evaluation any more")
