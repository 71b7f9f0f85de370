"""When a run plays for its score, and what it reports of that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dreamer_core.agent.policy import ActionMode, PolicyNetwork
from dreamer_core.config import Config, EvaluationConfig
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.envs.suites import opened
from dreamer_core.errors import BadInput
from dreamer_core.report.metrics import LATEST, is_of_newest_weights
from dreamer_core.report.read import LogReader
from dreamer_core.report.report import EpisodeSummary, Report
from dreamer_core.run.rollout import evaluate_episode
from dreamer_core.seeds import EVALUATOR_INCARNATION, env_seed
from dreamer_core.types import EnvSpec, WeightsSnapshot

logger = logging.getLogger(__name__)

_TAIL_BYTES = 8 << 20  # hours of lines


class EvaluationClock:
    """Says when an evaluation falls due: whenever the run comes to a multiple of the interval.

    Args:
        config: of the evaluations.
        frames_per_policy_step: env frames of each policy step.
    """

    def __init__(self, config: EvaluationConfig, frames_per_policy_step: int) -> None:
        frames = config.interval_frames
        self._interval = None if frames is None else max(1, frames // frames_per_policy_step)
        self._evaluated_at = 0
        self._version: int | None = None  # of the weights evaluated last

    def evaluated(self, policy_steps: int, version: int | None = None) -> None:
        """An evaluation began here, or is the last one that is known.

        Args:
            policy_steps: of the run.
            version: gradient steps behind the weights; None for none, or where nobody asks what
                is wanted last.
        """
        self._evaluated_at, self._version = policy_steps, version

    def gave_up(self) -> None:
        """The evaluation that began last came to nothing."""
        self._version = None

    def is_due(self, policy_steps: int) -> bool:
        """Whether a multiple of the interval lies between the last evaluation and here."""
        interval = self._interval
        return interval is not None and policy_steps // interval > self._evaluated_at // interval

    def is_last_wanted(self, version: int) -> bool:
        """Whether the final weights, of so many gradient steps, are to be evaluated yet."""
        if self._interval is None:
            return False
        return self._version is None or version > self._version


def last_evaluated(log: Path, policy_steps: int, gradient_steps: int) -> tuple[int, int | None]:
    """Returns policy steps and weights' version of a run's last evaluation; (0, None) for none.

    One that was given up is in no log, and so falls due again.

    Args:
        log: its metrics file, if there is one; of a long one the end is read.
        policy_steps: at which it goes on; what was evaluated beyond does not count any more.
        gradient_steps: likewise.
    """
    found: tuple[int, int | None] = (0, None)
    for line in LogReader(log, tail_bytes=_TAIL_BYTES, damaged=lambda _: None).read_on():
        is_own = line.service == "evaluator" and not line.labels.get("guest")
        if is_own and is_of_newest_weights(line):
            at = int(line.values.get("dreamer_evaluation_policy_steps", 0))
            version = int(line.values.get("dreamer_evaluation_gradient_steps", 0))
            if at <= policy_steps and version <= gradient_steps:
                found = (at, version)
    return found


def evaluate_weights(
    config: Config,
    spec: EnvSpec,
    policy: PolicyNetwork,
    weights: WeightsSnapshot,
    *,
    policy_step: int,
    on_step: Callable[[int], None],
) -> Report:
    """Plays the episodes of one evaluation in an environment of its own.

    What happens in them depends on the run's seed, the policy step and the weights alone.

    Args:
        config: of the run.
        spec: of the environment.
        policy: to load the weights into.
        weights: to play with.
        policy_step: policy steps of the run.
        on_step: is told the policy steps of an episode so far; what it raises ends it.

    Raises:
        EnvironmentCrashed: the simulator failed.
        BadInput: no second environment can be made, or not the same.
    """
    how = config.evaluation
    seed = env_seed(config.seed, EVALUATOR_INCARNATION)
    policy.load(weights)
    with opened(config.env, env_seed(seed, policy_step), spec) as env:
        played = [
            evaluate_episode(
                env,
                policy,
                mode=how.mode,
                words=(seed, policy_step, episode),
                policy_step=policy_step,
                on_step=on_step,
                limit=how.episode_limit,
            ).summary
            for episode in range(how.episodes)
        ]
    return evaluation_report(played, weights.version, how.mode, policy_step)


def evaluation_report(
    played: Sequence[EpisodeSummary],
    version: int,
    mode: ActionMode,
    policy_step: int,
    source: str = LATEST,
) -> Report:
    """Mean return and length of episodes, and the episodes.

    Args:
        played: episodes, at least one.
        version: gradient steps behind the weights.
        mode: how actions were chosen.
        policy_step: policy steps of the run when the weights were made.
        source: LATEST, or the checkpoint of the weights.
    """
    return Report(
        service="evaluator",
        values={
            "dreamer_evaluation_return": sum(s.episode_return for s in played) / len(played),
            "dreamer_evaluation_length_policy_steps": sum(s.length for s in played) / len(played),
            "dreamer_evaluation_policy_steps": float(policy_step),
            "dreamer_evaluation_gradient_steps": float(version),
        },
        episodes=tuple(played),
        labels={"mode": mode, "weights": source, "weights_version": version},
    )


class _GivenUp(Exception):
    """Nobody waits for an evaluation any more."""


class OwnEvaluations:
    """The evaluations of a run that plays them in its own process and does nothing else meanwhile.

    A stop gives one up, and what fails is a warning.

    Args:
        config: of the run.
        spec: of its environment.
        log: its metrics file.
        counts: policy and gradient steps at which it goes on.
        make_policy: called before the first evaluation.
        snapshot: returns the weights to play with.
        beat: called after each policy step.
        report: takes the results.
    """

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        log: Path,
        counts: tuple[int, int],
        *,
        make_policy: Callable[[], PolicyNetwork],
        snapshot: Callable[[], WeightsSnapshot],
        beat: Callable[[], None],
        report: Callable[[Report], None],
    ) -> None:
        self._config, self._spec = config, spec
        self._clock = EvaluationClock(config.evaluation, spec.frames_per_policy_step)
        self._clock.evaluated(*last_evaluated(log, *counts))
        self._make_policy, self._snapshot = make_policy, snapshot
        self._beat, self._report = beat, report
        self._policy: PolicyNetwork | None = None

    def play_if_due(self, policy_step: int, should_stop: Callable[[], bool]) -> None:
        """Plays where the clock says so."""
        if self._clock.is_due(policy_step):
            self._play(self._snapshot(), policy_step, should_stop)

    def play_last(self, policy_step: int, should_stop: Callable[[], bool]) -> None:
        """Plays with the weights of a run that is done, unless it has or evaluation is off."""
        weights = self._snapshot()
        if self._clock.is_last_wanted(weights.version):
            self._play(weights, policy_step, should_stop)

    def _play(
        self, weights: WeightsSnapshot, policy_step: int, should_stop: Callable[[], bool]
    ) -> None:
        self._clock.evaluated(policy_step, weights.version)
        self._policy = self._policy or self._make_policy()

        def on_step(_num_steps: int) -> None:
            self._beat()
            if should_stop():
                raise _GivenUp

        try:
            report = evaluate_weights(
                self._config,
                self._spec,
                self._policy,
                weights,
                policy_step=policy_step,
                on_step=on_step,
            )
        except _GivenUp:
            self._clock.gave_up()
            return
        except (EnvironmentCrashed, BadInput) as error:
            logger.warning("Not evaluated at policy step %d: %s", policy_step, error)
            return
        self._report(report)
