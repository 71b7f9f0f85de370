"""The learning curves of a run, kept small however long it is and read on as it grows."""

from __future__ import annotations

import logging
import math
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Any

from dreamer_core.report import LogLine, parse_line

_log = logging.getLogger(__name__)

MAX_POINTS = 500
RUNNING_MEAN_EPISODES = 20
_BLOCK_BYTES = 1_000_000
_LOSSES = {"image_mse": "dreamer_image_mean_squared_error", "kl": "dreamer_kl_nats"}


class Curve:
    """A curve of any length as at most MAX_POINTS means of neighbouring points."""

    def __init__(self) -> None:
        self._means: list[tuple[float, float]] = []
        self._points_per_mean = 1
        self._open: list[tuple[float, float]] = []  # points of the mean that is not full yet

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

    def points(self) -> list[tuple[float, float]]:
        """Returns the means so far, that of the newest points included."""
        return [*self._means, _mean(self._open)] if self._open else list(self._means)


class RunCurves:
    """The curves and newest numbers of a run, from its metrics.jsonl.

    Args:
        path: of the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reading = Lock()  # a request that is cancelled leaves its thread reading
        self._read_bytes = 0
        self._curves: dict[str, Curve] = {}
        self._recent: deque[float] = deque(maxlen=RUNNING_MEAN_EPISODES)
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
        for name, value in line.values.items():
            self._values[name] = value if math.isfinite(value) else None
        for name, metric in _LOSSES.items():
            self._add(name, line.env_frame, line.values.get(metric, math.nan))
        if line.service == "evaluator":
            value = line.values.get("dreamer_evaluation_return", math.nan)
            self._add("evaluation", line.env_frame, value)
            return
        for episode in line.episodes:
            if not math.isfinite(episode.episode_return):
                continue
            frame = episode.policy_step * line.action_repeat
            self._recent.append(episode.episode_return)
            self._add("return", frame, episode.episode_return)
            self._add("mean_return", frame, sum(self._recent) / len(self._recent))

    def _add(self, name: str, x: float, y: float) -> None:
        self._curves.setdefault(name, Curve()).add(x, y)


def _mean(points: Any) -> tuple[float, float]:
    xs, ys = zip(*points, strict=True)
    return sum(xs) / len(xs), sum(ys) / len(ys)
