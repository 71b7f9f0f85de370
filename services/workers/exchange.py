"""Exchange: where evaluators of other jobs find config and weights, and leave what they saw."""

from __future__ import annotations

from collections import deque
from typing import Any

from dreamer_core.config import Config
from dreamer_core.types import Report

_MAX_REPORTS = 1000  # a run that does not fetch them must not fill this process


class Exchange:
    """The one service that others than the supervisor call; the run does not depend on it.

    Args:
        config: of the run.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._newest: tuple[list[Any], int] | None = None
        self._reports = deque[Report](maxlen=_MAX_REPORTS)

    def post(self, weights: list[Any], policy_step: int) -> None:
        """Takes over the newest weights.

        Args:
            weights: a reference to the snapshot, in a list so that it is not fetched.
            policy_step: policy steps of the run when they were made.
        """
        self._newest = (weights, policy_step)

    def config(self) -> Config:
        """Of the run."""
        return self._config

    def newest(self) -> tuple[list[Any], int] | None:
        """Returns what was posted last; None before the first."""
        return self._newest

    def leave(self, report: Report) -> None:
        """Keeps a report for the run; the oldest goes if too many are left."""
        self._reports.append(report)

    def take(self) -> list[Report]:
        """Returns the reports left since the last call."""
        reports = list(self._reports)
        self._reports.clear()
        return reports
