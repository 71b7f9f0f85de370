"""The lines of metrics.jsonl, read back, and what they say of the run's curves.

Whatever shows a run reads its log here. A run that is resumed may go back to its checkpoint and
then reports again what it had reported from there on, with the same policy steps or others.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

from dreamer_core.errors import BadInput
from dreamer_core.report.metrics import is_of_newest_weights, training_episodes
from dreamer_core.report.report import EpisodeSummary

METRICS_FILE = "metrics.jsonl"
RUNNING_MEAN_EPISODES = 20
"""Training episodes behind each point of a smoothed curve of returns."""
_LOSSES = {"image_mse": "dreamer_image_mean_squared_error", "kl": "dreamer_kl_nats"}

Point: TypeAlias = tuple[float, float]
"""Env frame and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of metrics.jsonl: a report, when it came and where the run stood."""

    wall_time_s: float
    """Unix time of the write."""
    service: str
    """Sender of the report."""
    policy_step: int
    """Policy steps of the run."""
    env_frame: int
    """Policy steps x frames of each."""
    gradient_step: int
    """Gradient steps of the run."""
    values: dict[str, float]
    """Metric name to value; NaN where the value was not finite."""
    episodes: tuple[EpisodeSummary, ...] = ()
    """Episodes that ended since the service's last report."""
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    """Facts that qualify the values."""

    @property
    def frames_per_policy_step(self) -> float:
        """Frames per policy step (1 on a line written before the first step)."""
        return self.env_frame / self.policy_step if self.policy_step else 1.0

    @property
    def evaluated_frame(self) -> float:
        """Env frames of the run when the weights were made that this line evaluates."""
        policy_steps = self.values.get("dreamer_evaluation_policy_steps", self.policy_step)
        return policy_steps * self.frames_per_policy_step


@dataclass(frozen=True, slots=True)
class Added:
    """What a line adds to a curve."""

    points: list[Point]
    """At least one; finite."""
    replaces_from: float | None
    """Env frame from which on they take the place of what there was; None if they only add."""


class CurveLines:
    """Says line by line what is added to each curve of a run.

    return       of each training episode, where it ended
    evaluation   the mean return of one, where its weights were made; also of an old checkpoint's
    image_mse    loss of the world model, where the run stood
    kl           the same

    A run that is resumed may go back to its checkpoint: what it reports then takes the place of
    what it had reported from there on, in each curve as soon as it adds to that.
    """

    def __init__(self) -> None:
        self._reached: dict[str, int] = {}  # env frame of the newest report in each curve

    def take(self, line: LogLine) -> dict[str, Added]:
        """Returns what the next line adds; curves that it adds nothing finite to are left out."""
        if not is_of_newest_weights(line):  # nothing of the run as it is now goes back with it
            return {name: Added(points, None) for name, points in _curve_points(line).items()}
        added: dict[str, Added] = {}
        for name, points in _curve_points(line).items():
            has_gone_back = line.env_frame < self._reached.get(name, 0)
            added[name] = Added(points, min(points)[0] if has_gone_back else None)
            self._reached[name] = line.env_frame
        return added


class LogReader:
    """Reads the lines of a metrics file, and reads on as the file grows.

    A last line without its newline, which the run is writing or a kill tore, is left for the next
    time. A file that took the place of the one before, or was shortened, is begun anew.

    Args:
        path: of the file, which need not exist yet.
        tail_bytes: of a file, begin with so much of its end; None begins with its first line.
        damaged: is told what is wrong with each damaged line, which is then left out.
        begun_anew: is called before a file is begun, the first one too.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        tail_bytes: int | None = None,
        damaged: Callable[[str], None] | None = None,
        begun_anew: Callable[[], None] | None = None,
    ) -> None:
        self._path, self._tail_bytes = Path(path), tail_bytes
        self._damaged, self._begun_anew = damaged, begun_anew
        self._file: tuple[int, int] | None = None  # device and inode of what is being read
        self._read_bytes = 0
        self._line_number: int | None = 0  # None where lines before the first were left out

    def read_on(self) -> Iterator[LogLine]:
        """Yields the lines written since the last call, oldest first; none if there is no file.

        Raises:
            BadInput: a complete line is not what `RunLog` writes, and nobody is told of damage.
            OSError: the file cannot be read; the next call goes on behind the last line yielded.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._find_place(file)
            for text in file:
                if not text.endswith(b"\n"):
                    return
                self._read_bytes += len(text)
                if self._line_number is not None:
                    self._line_number += 1
                line = self._parsed(text)
                if line is not None:
                    yield line

    def _find_place(self, file: BufferedReader) -> None:
        """Goes to the first byte that was not read yet."""
        found = os.fstat(file.fileno())
        identity = (found.st_dev, found.st_ino)
        if identity != self._file or found.st_size < self._read_bytes:
            if self._begun_anew is not None:
                self._begun_anew()
            self._file, self._read_bytes, self._line_number = identity, 0, 0
            if self._tail_bytes is not None and found.st_size > self._tail_bytes:
                file.seek(found.st_size - self._tail_bytes)
                file.readline()  # this line may have lost its beginning
                self._read_bytes, self._line_number = file.tell(), None
        file.seek(self._read_bytes)

    def _parsed(self, text: bytes) -> LogLine | None:
        number = self._line_number
        place = f"{self._path}:{f'before byte {self._read_bytes}' if number is None else number}"
        try:
            return _parse(text.decode(errors="replace"), place)
        except BadInput as error:
            if self._damaged is None:
                raise
            self._damaged(str(error))
            return None


def read_jsonl(path: Path | str, *, tail_bytes: int | None = None) -> list[LogLine]:
    """Returns the lines of a metrics file at once; see `LogReader`."""
    return list(LogReader(path, tail_bytes=tail_bytes).read_on())


def _parse(text: str, where: str) -> LogLine:
    """Rebuilds a line from its JSON.

    Raises:
        BadInput: it cannot be, with the place.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["values"] = {name: _float_of(value) for name, value in raw["values"].items()}
        episodes: list[dict[str, Any]] = raw["episodes"]
        for episode in episodes:
            episode["episode_return"] = _float_of(episode["episode_return"])
            info: dict[str, Any] = episode.get("info", {})
            episode["info"] = {key: _float_of(value) for key, value in info.items()}
        if not isinstance(raw.get("labels", {}), dict):
            raise TypeError("labels must be an object")
        raw["episodes"] = tuple(EpisodeSummary(**episode) for episode in episodes)
        return LogLine(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{where} is not a metrics line ({error}); the file was changed by something else "
            "than the run, so delete that line or restore the file"
        ) from error


def _float_of(value: float | None) -> float:
    """Returns the number, NaN for JSON's null."""
    return math.nan if value is None else float(value)


def _curve_points(line: LogLine) -> dict[str, list[Point]]:
    points: dict[str, list[Point]] = {
        "return": [
            (episode.policy_step * line.frames_per_policy_step, episode.episode_return)
            for episode in training_episodes(line)
        ]
    }
    if "dreamer_evaluation_return" in line.values:
        value = line.values["dreamer_evaluation_return"]
        points["evaluation"] = [(line.evaluated_frame, value)]
    for name, metric in _LOSSES.items():
        if metric in line.values:
            points[name] = [(line.env_frame, line.values[metric])]
    finite = {name: [xy for xy in of if all(map(math.isfinite, xy))] for name, of in points.items()}
    return {name: of for name, of in finite.items() if of}
