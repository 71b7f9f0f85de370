"""When the run's own evaluators play, with which weights, and how they are given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dreamer_core.config import EvaluationConfig
from dreamer_core.report.report import Report
from dreamer_core.run.scoring import EvaluationClock
from services.runtime.crew import Crew

logger = logging.getLogger(__name__)


class Evaluations:
    """Evaluations beside training.

    Args:
        crew: whose evaluators play.
        config: how they play, and when.
        count: of evaluators.
        frames_per_policy_step: env frames of each policy step.
        last_evaluated: gives policy steps and weights' version of the last evaluation that is
            known, and counts, of a run that goes on at so many policy and gradient steps.
    """

    def __init__(
        self,
        crew: Crew,
        config: EvaluationConfig,
        count: int,
        frames_per_policy_step: int,
        last_evaluated: Callable[[int, int], tuple[int, int | None]] = lambda policy, trained: (
            policy,
            trained,
        ),
    ) -> None:
        self._crew = crew
        self._config = config
        self.names = tuple(f"evaluator-{i}" for i in range(count))
        """Of the evaluators, whether they run or not."""
        self.clock = EvaluationClock(config, frames_per_policy_step)
        """Says when they play."""
        self._last_evaluated = last_evaluated

    def begin(self, policy_steps: int, gradient_steps: int) -> None:
        """The run goes on here."""
        self.clock.evaluated(*self._last_evaluated(policy_steps, gradient_steps))

    def start(
        self,
        weights: Any,
        *,
        policy_steps: int,
        of_policy_steps: int,
        version: int | None,
        on_done: Callable[[Report], None],
        max_starts: int | None = None,
    ) -> None:
        """Has idle evaluators play.

        Args:
            weights: reference to those of the policy; None of them are not played.
            policy_steps: of the run by now.
            of_policy_steps: of the run when the weights were made.
            version: gradient steps behind the weights.
            on_done: takes what each reports.
            max_starts: how many of them may be new: many at once would take the processors from
                training; None for all.
        """
        if weights is None or version is None:  # a loss amid the last publishing took the run back
            logger.warning("Not evaluated: there are no weights to play with")
            return
        starts = len(self.names) if max_starts is None else max_starts
        for index, name in enumerate(self.names):
            if self._crew.calls.in_flight(name, "evaluate"):
                continue
            if not self._crew.host.has(name):
                if starts == 0:
                    continue
                starts -= 1
                self._crew.host.start(name, index)
            self.clock.evaluated(policy_steps, version)
            done = self._crew.host.call(
                name, "evaluate", weights, self._config.episodes, self._config.mode, of_policy_steps
            )
            self._crew.calls.add(name, "evaluate", done, partial(_named, name, on_done))

    def drop(self, names: Sequence[str] | None = None) -> None:
        """Gives up those under way: nothing waits for the end of their episodes.

        Args:
            names: of the evaluators to end; None for all that play.
        """
        given = self.names if names is None else names
        busy = [name for name in given if self._crew.calls.in_flight(name, "evaluate")]
        self._crew.calls.drop(busy)
        if busy:
            self.clock.gave_up()
        self._crew.host.end(busy if names is None else names)


def _named(name: str, on_done: Callable[[Report], None], report: Report) -> None:
    """Says which evaluator played, since all of them play with the same weights."""
    on_done(replace(report, labels={**report.labels, "evaluator": name}))
