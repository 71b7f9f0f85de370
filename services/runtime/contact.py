"""A running run as a job beside it sees it: config, newest weights, and what the job found."""

from __future__ import annotations

import secrets
import time
from typing import Any

import ray
from ray.exceptions import RayError

from dreamer_core.config import Config
from dreamer_core.report.report import Report
from services.runtime.crew import EXCHANGE

_ANSWER_S = 30.0  # for what needs no work
_SILENCE_S = 30.0  # a run without an exchange for so long has ended: it replaces a lost one at once
_PAUSE_S = 1.0  # enough for the run to say that it has ended


class Contact:
    """Asks the exchange of a run, which may be replaced at any time.

    Ray must be connected to the run's cluster, in its namespace.
    """

    def __init__(self) -> None:
        self._guest = secrets.token_hex(8)
        self._exchange: Any = None
        self._silent_since_s: float | None = None  # when it was first asked in vain
        self._num_noted = 0
        self._found: list[Report] = []

    @property
    def is_lost(self) -> bool:
        """Whether the run was asked in vain for so long that it must have ended."""
        silent_s = 0.0 if self._silent_since_s is None else time.monotonic() - self._silent_since_s
        return silent_s > _SILENCE_S

    @property
    def num_unnoted(self) -> int:
        """Reports that the run has not confirmed yet."""
        return len(self._found)

    def config(self) -> Config | None:
        """Of the run; None if it does not answer now."""
        return self._ask("config")

    def newest(self) -> tuple[Any, int] | None:
        """Returns a reference to the newest weights, and the policy steps behind them.

        None if there are none yet or the run does not answer now.
        """
        newest = self._ask("newest")
        return newest and (newest[0][0], newest[1])

    def found(self, report: Report) -> None:
        """Has `leave` bring a report to the run."""
        self._found.append(report)

    def leave(self) -> None:
        """Brings what the run has not confirmed, again until it has."""
        if self._found:
            noted = self._ask("leave", self._guest, self._num_noted, self._found)
            if noted is not None:
                del self._found[: noted - self._num_noted]
                self._num_noted = noted

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            self._exchange = self._exchange or ray.get_actor(EXCHANGE)
            answer = ray.get(getattr(self._exchange, method).remote(*arguments), timeout=_ANSWER_S)
        except (ValueError, RayError):
            self._exchange = None
            self._silent_since_s = self._silent_since_s or time.monotonic()
            time.sleep(_PAUSE_S)
            return None
        self._silent_since_s = None
        return answer
