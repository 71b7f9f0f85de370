"""The learning curves of a run, kept small however long it is and read on as it grows."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from dreamer_core.report.history import RunHistory
from dreamer_core.report.metrics import is_of_newest_weights
from dreamer_core.report.read import (
    RUNNING_MEAN_EPISODES,
    Added,
    CurveLines,
    LogLine,
    LogReader,
    Point,
)

_logger = logging.getLogger(__name__)

MAX_POINTS = 500
_LONGEST_SILENCE_S = 600.0  # of a run at work; after more it was stopped


class ThinnedCurve:
    """A curve of any length as at most MAX_POINTS means of neighbouring points."""

    def __init__(self) -> None:
        self._means: list[Point] = []
        self._points_per_mean = 1
        self._open: list[Point] = []  # points of the mean that is not full yet

    def add(self, x: float, y: float) -> None:
        """Takes one more point."""
        self._open.append((x, y))
        if len(self._open) < self._points_per_mean:
            return
        self._means.append(_mean(self._open))
        self._open = []
        if len(self._means) == MAX_POINTS:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [_mean(pair) for pair in pairs]
            self._points_per_mean *= 2

    def drop_from(self, x: float) -> None:
        """Forgets the means at x and above."""
        self._means = [mean for mean in self._means if mean[0] < x]
        self._open = [point for point in self._open if point[0] < x]

    def points(self) -> list[Point]:
        """Returns the means so far, that of the newest points included."""
        return [*self._means, _mean(self._open)] if self._open else list(self._means)


class RunCurves:
    """The curves and newest numbers of a run, from its metrics.jsonl.

    Args:
        path: of the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._reading = Lock()  # a request that is cancelled leaves its thread reading
        self._log = LogReader(
            path,
            damaged=lambda words: _logger.warning("left out of the curves: %s", words),
            begun_anew=self._begin,
        )
        self._begin()

    def _begin(self) -> None:
        self._curves: dict[str, ThinnedCurve] = {}
        self._lines = CurveLines()
        self._recent: deque[Point] = deque(maxlen=RUNNING_MEAN_EPISODES)
        self._history = RunHistory()
        self._trained_s = 0.0

    def read_on(self) -> dict[str, Any]:
        """Takes in the lines written since the last call; a torn last one is left for the next.

        May be called from several threads at once.

        Returns:
            The newest numbers, and each curve as points (env frame, value).
        """
        with self._reading:
            for line in self._log.read_on():
                self._take(line)
            return self._as_json()

    def _as_json(self) -> dict[str, Any]:
        newest, values = self._history.newest, self._history.values
        return {
            "policy_step": newest.policy_step if newest else 0,
            "env_frame": newest.env_frame if newest else 0,
            "gradient_step": newest.gradient_step if newest else 0,
            "reported_s": newest.wall_time_s if newest else None,
            "values": {name: x if math.isfinite(x) else None for name, x in values.items()},
            "curves": {name: curve.points() for name, curve in self._curves.items()},
            "trained_s": self._trained_s,
            "score": self._score(),
        }

    def _score(self) -> dict[str, Any] | None:
        """The mean of the last evaluations' episodes, or of the last training episodes if none."""
        for played, found in (
            ("greedy evaluation", self._history.evaluations.last()),
            ("training", self._history.training.last(episodes=RUNNING_MEAN_EPISODES)),
        ):
            if found is not None:
                return {"mean": found.mean, "episodes": len(found.episodes), "played": played}
        return None

    def _take(self, line: LogLine) -> None:
        before = self._history.newest
        self._history.take(line)
        if not is_of_newest_weights(line):
            return
        since_s = line.wall_time_s - before.wall_time_s if before else 0.0
        self._trained_s += since_s if 0 < since_s < _LONGEST_SILENCE_S else 0.0
        for name, added in self._lines.take(line).items():
            self._add(name, added)
            if name == "return":
                self._add("mean_return", replace(added, points=self._running_means(added)))

    def _running_means(self, returns: Added) -> list[Point]:
        """Returns for each training episode the mean of the newest ones up to it."""
        if returns.replaces_from is not None:
            before = [point for point in self._recent if point[0] < returns.replaces_from]
            self._recent = deque(before, maxlen=RUNNING_MEAN_EPISODES)
        means: list[Point] = []
        for point in returns.points:
            self._recent.append(point)
            means.append((point[0], sum(y for _, y in self._recent) / len(self._recent)))
        return means

    def _add(self, name: str, added: Added) -> None:
        curve = self._curves.setdefault(name, ThinnedCurve())
        if added.replaces_from is not None:
            curve.drop_from(added.replaces_from)
        for x, y in added.points:
            curve.add(x, y)


def _mean(points: Any) -> Point:
    xs, ys = zip(*points, strict=True)
    return sum(xs) / len(xs), sum(ys) / len(ys)
