"""What evaluators of other jobs found, taken into the run: each report once, whatever dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dreamer_core.report.report import Report
from services.runtime.crew import EXCHANGE, Crew


class Guests:
    """Fetches what guests left at the exchange.

    A report stays with its guest until the run has told the exchange that it is noted, so one that
    is lost with an exchange is left again, and one that is left again counts once.

    Args:
        crew: whose exchange is asked.
        report: takes each report.
    """

    def __init__(self, crew: Crew, report: Callable[[Report], None]) -> None:
        self._crew = crew
        self._report = report
        self._noted: dict[str, int] = {}  # guest to how many of its reports, from its first

    def take(self) -> None:
        """Fetches what is there, and confirms what was fetched before."""
        if not self._crew.calls.in_flight(EXCHANGE, "take"):
            left = self._crew.host.call(EXCHANGE, "take", dict(self._noted))
            self._crew.calls.add(EXCHANGE, "take", left, self._note)

    def _note(self, left: dict[tuple[str, int], Report]) -> None:
        for (guest, number), report in left.items():  # none that `take` said is noted
            self._report(replace(report, labels={**report.labels, "guest": True}))
            self._noted[guest] = number + 1
