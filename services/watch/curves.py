"""The learning curves of a run, kept small however long it is and read on as it grows."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Any

from dreamer_core.report.metrics import has_newest_weights
from dreamer_core.report.read import LogLine, parse_line

_log = logging.getLogger(__name__)

MAX_POINTS = 500
RUNNING_MEAN_EPISODES = 20
_BLOCK_BYTES = 1_000_000
_LOSSES = {"image_mse": "dreamer_image_mean_squared_error", "kl": "dreamer_kl_nats"}
Point = tuple[float, float]


class Curve:
    """A curve of any length as at most MAX_POINTS means of neighbouring points."""

    def __init__(self) -> None:
        self._means: list[Point] = []
        self._points_per_mean = 1
        self._open: list[Point] = []  # points of the mean that is not full yet

    def add(self, x: float, y: float) -> None:
        """Takes one more point; one that is not finite is left out."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
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

    A run that is resumed may go back to its checkpoint: what it reports then takes the place of
    what it had reported from there on.

    Args:
        path: of the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = Lock()  # a request that is cancelled leaves its thread reading
        self._file: tuple[int, int] | None = None  # device and inode of what is being read
        self._begin()

    def _begin(self) -> None:
        self._read_bytes = 0
        self._curves: dict[str, Curve] = {}
        self._reached: dict[str, int] = {}  # env frame of the newest report in each curve
        self._recent: deque[Point] = deque(maxlen=RUNNING_MEAN_EPISODES)
        self._values: dict[str, float | None] = {}
        self._newest: LogLine | None = None

    def read_on(self) -> dict[str, Any]:
        """Takes in the lines written since the last call; a torn last one is left for the next.

        May be called from several threads at once.

        Returns:
            The newest numbers, and each curve as points (env frame, value).
        """
        with self._reading:
            if self._path.exists():
                self._read_lines()
            return self._as_json()

    def _read_lines(self) -> None:
        with self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            identity = (found.st_dev, found.st_ino)
            if identity != self._file or found.st_size < self._read_bytes:
                self._begin()
            self._file = identity
            file.seek(self._read_bytes)
            torn = b""
            while block := file.read(_BLOCK_BYTES):
                *lines, torn = (torn + block).split(b"\n")
                for line in lines:
                    self._read_bytes += len(line) + 1
                    self._take(line)

    def _as_json(self) -> dict[str, Any]:
        newest = self._newest
        return {
            "policy_step": newest.policy_step if newest else 0,
            "env_frame": newest.env_frame if newest else 0,
            "gradient_step": newest.gradient_step if newest else 0,
            "reported_s": newest.wall_time_s if newest else None,
            "values": dict(self._values),
            "curves": {name: curve.points() for name, curve in self._curves.items()},
        }

    def _take(self, text: bytes) -> None:
        try:
            line = parse_line(text.decode(errors="replace"), str(self._path))
        except ValueError as error:
            _log.warning("left out of the curves: %s", error)
            return
        self._newest = line
        if not has_newest_weights(line.labels):
            return
        for name, value in line.values.items():
            self._values[name] = value if math.isfinite(value) else None
        for name, metric in _LOSSES.items():
            if metric in line.values:
                self._add(name, line.env_frame, [(line.env_frame, line.values[metric])])
        if line.service == "evaluator":
            value = line.values.get("dreamer_evaluation_return", math.nan)
            self._add("evaluation", line.env_frame, [(line.evaluated_frame, value)])
        elif line.episodes:
            self._add_returns(line)

    def _add_returns(self, line: LogLine) -> None:
        """Adds the returns of a report's episodes, and for each the mean of the newest."""
        returns = [
            (episode.policy_step * line.action_repeat, episode.episode_return)
            for episode in line.episodes
            if math.isfinite(episode.episode_return)
        ]
        if not returns:
            return
        if line.env_frame < self._reached.get("return", 0):
            before = [point for point in self._recent if point[0] < min(returns)[0]]
            self._recent = deque(before, maxlen=RUNNING_MEAN_EPISODES)
        means: list[Point] = []
        for point in returns:
            self._recent.append(point)
            means.append((point[0], sum(y for _, y in self._recent) / len(self._recent)))
        self._add("return", line.env_frame, returns)
        self._add("mean_return", line.env_frame, means)

    def _add(self, name: str, env_frame: int, points: list[Point]) -> None:
        """Adds the points of a report at `env_frame`, in place of others if that went back."""
        curve = self._curves.setdefault(name, Curve())
        if env_frame < self._reached.get(name, 0):
            curve.drop_from(min(points)[0])
        self._reached[name] = env_frame
        for x, y in points:
            curve.add(x, y)


def _mean(points: Any) -> Point:
    xs, ys = zip(*points, strict=True)
    return sum(xs) / len(xs), sum(ys) / len(ys)
