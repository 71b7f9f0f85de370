"""Exchange: where evaluators of other jobs find config and weights, and leave what they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dreamer_core.config import Config
from dreamer_core.report.report import Report

_MAX_REPORTS = 1000  # a run that does not fetch them must not fill this process


class Exchange:
    """The one service that others than the supervisor call; the run does not depend on it.

    Args:
        config: of the run.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._newest: tuple[list[Any], int] | None = None
        self._left: dict[tuple[str, int], Report] = {}
        self._noted: dict[str, int] = {}

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

    def leave(self, guest: str, number: int, reports: Sequence[Report]) -> int:
        """Keeps what a guest has for the run, and tells how much of it the run has noted.

        A guest leaves its reports until they are noted: this process may be replaced before the
        run has fetched them, and takes no more than it has room for.

        Args:
            guest: name of the job, its own.
            number: of the first report among all that the guest has had, from 0.
            reports: that one and those after it.

        Returns:
            How many of the guest's reports, from its first, are noted.
        """
        noted = self._noted.get(guest, 0)
        for own_number, report in enumerate(reports, number):
            key = guest, own_number
            if own_number >= noted and (key in self._left or len(self._left) < _MAX_REPORTS):
                self._left[key] = report
        return noted

    def take(self, noted: Mapping[str, int]) -> dict[tuple[str, int], Report]:
        """Returns the reports that are left, by guest and number; in order for each guest.

        Args:
            noted: how many of each guest's reports the run has noted; these go.
        """
        self._noted.update(noted)
        self._left = {
            (guest, number): report
            for (guest, number), report in self._left.items()
            if number >= self._noted.get(guest, 0)
        }
        return dict(self._left)
