"""When the run's own evaluators play, with which weights, and how they are given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from dreamer_core.types import Report
from services.runtime.config import EvaluatorConfig
from services.runtime.crew import Crew

logger = logging.getLogger(__name__)


class Evaluations:
    """Evaluations beside training.

    Args:
        crew: whose evaluators play.
        config: how many there are, how often and how they play.
    """

    def __init__(self, crew: Crew, config: EvaluatorConfig) -> None:
        self._crew = crew
        self._config = config
        self.names = tuple(f"evaluator-{i}" for i in range(config.count))
        """Of the evaluators, whether they run or not."""
        self._evaluated_at = 0

    def begin(self, policy_steps: int) -> None:
        """The run goes on here; what came before counts as evaluated."""
        self._evaluated_at = policy_steps

    def is_due(self, policy_steps: int) -> bool:
        """Whether so many policy steps call for an evaluation."""
        interval = self._config.interval_policy_steps
        return interval is not None and policy_steps - self._evaluated_at >= interval

    def is_last_wanted(self, policy_steps: int) -> bool:
        """Whether the final weights are to be evaluated, and were not."""
        return self._config.interval_policy_steps is not None and policy_steps > self._evaluated_at

    def start(
        self,
        weights: Any,
        *,
        policy_steps: int,
        of_policy_steps: int,
        on_done: Callable[[Report], None],
        max_starts: int | None = None,
    ) -> None:
        """Has idle evaluators play.

        Args:
            weights: reference to those of the policy; None of them are not played.
            policy_steps: of the run by now.
            of_policy_steps: of the run when the weights were made.
            on_done: takes what each reports.
            max_starts: how many of them may be new: many at once would take the processors from
                training; None for all.
        """
        if weights is None:  # a loss amid the last publishing took the run back
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
            self._evaluated_at = policy_steps
            done = self._crew.host.call(
                name, "evaluate", weights, self._config.episodes, self._config.mode, of_policy_steps
            )
            self._crew.calls.add(name, "evaluate", done, on_done)

    def drop(self) -> None:
        """Gives up those under way: nothing waits for the end of their episodes."""
        busy = [name for name in self.names if self._crew.calls.in_flight(name, "evaluate")]
        self._crew.calls.drop(busy)
        self._crew.host.end(busy)
