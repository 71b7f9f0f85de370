"""When the next checkpoint is due, and how the services make one together."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal, TypeAlias

from dreamer_core.report.report import Report
from dreamer_core.run.schedule import Schedule
from services.runtime.crew import Crew

logger = logging.getLogger(__name__)

_RETRY_S = 30.0  # between two tries to write one

_Wanted: TypeAlias = Literal["no", "asked", "begun", "made"]


class Saves:
    """The clock of the checkpoints.

    Args:
        crew: replay, learner and, in lockstep, the collector take part.
        interval_s: between two checkpoints.
    """

    def __init__(self, crew: Crew, interval_s: float) -> None:
        self._crew = crew
        self._interval_s = interval_s
        self._saved_s = crew.host.now_s()
        self._tried_s = -math.inf
        self._policy_steps = 0  # of the one that is being written
        self._has_resume_point = False  # without one, a kill in lockstep could not be undone
        self._wanted: _Wanted = "no"  # whatever the clock says; one begun before does not count

    def began(self, *, is_exact: bool) -> None:
        """Takes note that the services were brought up, at a checkpoint or not."""
        self._has_resume_point = is_exact
        self.lost()

    def lost(self) -> None:
        """A try that the services of before did not end is void."""
        self._tried_s = -math.inf

    def want(self) -> None:
        """A checkpoint is wanted at once, whatever the clock says; asking twice wants one."""
        if self._wanted == "no":
            self.want_another()

    def want_another(self) -> None:
        """What was begun or made so far is not the one that is wanted."""
        self._wanted, self._tried_s = "asked", -math.inf

    def want_none(self) -> None:
        """The clock alone says when the next one is due."""
        self._wanted = "no"

    @property
    def is_made(self) -> bool:
        """Whether one that was begun since it is wanted has been written."""
        return self._wanted == "made"

    @property
    def is_under_way(self) -> bool:
        """Whether one is being written, or is to be begun as soon as it can."""
        return self.is_due() or bool(self._crew.calls.in_flight("learner", "save"))

    @property
    def age_s(self) -> float:
        """Since the newest checkpoint."""
        return self._crew.host.now_s() - self._saved_s

    def is_due(self) -> bool:
        """Whether it is time to save, and none is being written."""
        needs_point = self._crew.is_lockstep and not self._has_resume_point
        is_missing = self._wanted in ("asked", "begun")
        is_due = is_missing or needs_point or self.age_s > self._interval_s
        since_try_s = self._crew.host.now_s() - self._tried_s
        is_retry_due = since_try_s > min(self._interval_s, _RETRY_S)
        return is_due and is_retry_due and not self._crew.calls.in_flight("learner", "save")

    def begin(self, schedule: Schedule, weights: Any) -> tuple[Any, Any]:
        """Asks for a checkpoint, written between two gradient steps.

        Args:
            schedule: whose policy steps it is to name.
            weights: reference to those of the collector's policy.

        Returns:
            References to the replay's position and to the report.
        """
        self.tried()
        if self._wanted == "asked":
            self._wanted = "begun"
        self._policy_steps = schedule.policy_steps
        host = self._crew.host
        position = host.call("replay", "flush")
        others = ()
        if self._crew.is_lockstep:
            others = (host.call("collector", "state"), weights)
        return position, host.call("learner", "save", schedule.policy_steps, position, *others)

    def tried(self) -> None:
        """The next try has to wait."""
        self._tried_s = self._crew.host.now_s()

    def saved(self, position: Any, report: Report) -> None:
        """A checkpoint with the replay at `position` is on disk; `report` is the learner's."""
        self._saved_s = self._crew.host.now_s()
        if self._wanted == "begun":
            self._wanted = "made"
        seconds = report.values["dreamer_checkpoint_seconds"]
        logger.info("Wrote the checkpoint of policy step %d in %.1f s", self._policy_steps, seconds)
        if self._crew.is_lockstep:
            self._has_resume_point = True
            self._crew.host.call("replay", "release", position)
