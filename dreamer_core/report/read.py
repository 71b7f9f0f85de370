"""The lines of metrics.jsonl, read back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamer_core.types import EpisodeSummary

METRICS_FILE = "metrics.jsonl"


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
    """Policy steps x action repeat."""
    gradient_step: int
    """Gradient steps of the run."""
    values: dict[str, float]
    """Metric name to value; NaN where the value was not finite."""
    episodes: tuple[EpisodeSummary, ...] = ()
    """Episodes that ended since the service's last report."""
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    """Facts that qualify the values."""

    @property
    def action_repeat(self) -> float:
        """Frames per policy step (1 on a line written before the first step)."""
        return self.env_frame / self.policy_step if self.policy_step else 1.0

    @property
    def evaluated_frame(self) -> float:
        """Env frames of the run when the weights were made that this line evaluates."""
        policy_steps = self.values.get("dreamer_evaluation_policy_steps", self.policy_step)
        return policy_steps * self.action_repeat


def read_jsonl(
    path: Path | str, *, tail_bytes: int | None = None, damaged: list[str] | None = None
) -> list[LogLine]:
    """Returns the lines of a metrics file, oldest first; see `iterate_jsonl`."""
    return list(iterate_jsonl(path, tail_bytes=tail_bytes, damaged=damaged))


def iterate_jsonl(
    path: Path | str, *, tail_bytes: int | None = None, damaged: list[str] | None = None
) -> Iterator[LogLine]:
    """Yields the lines of a metrics file, oldest first; none if the file does not exist.

    May be called while the run writes: a last line without its newline is left out.

    Args:
        path: of the file.
        tail_bytes: read only so much of its end; None reads all of it.
        damaged: collects what is wrong with each damaged line, which is then left out.

    Raises:
        ValueError: a complete line is not what `RunLog` writes, and `damaged` is None; named by
            its number.
    """
    path = Path(path)
    if not path.exists():
        return
    with path.open("rb") as file:
        if tail_bytes is not None and path.stat().st_size > tail_bytes:
            file.seek(-tail_bytes, os.SEEK_END)
            file.readline()  # this line may have lost its beginning
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                continue
            try:
                parsed = parse_line(line.decode(errors="replace"), f"{path}:{number}")
            except ValueError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
            else:
                yield parsed


def parse_line(text: str, where: str) -> LogLine:
    """Rebuilds a line from its JSON.

    Raises:
        ValueError: it cannot be, with the place.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["values"] = {name: _float_of(value) for name, value in raw["values"].items()}
        episodes: list[dict[str, Any]] = raw["episodes"]
        for episode in episodes:
            episode["episode_return"] = _float_of(episode["episode_return"])
        raw["episodes"] = tuple(EpisodeSummary(**episode) for episode in episodes)
        return LogLine(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{where} is not a metrics line ({error}); the file was changed by something else "
            "than the run, so delete that line or restore the file"
        ) from error


def _float_of(value: float | None) -> float:
    """Returns the number, NaN for JSON's null."""
    return math.nan if value is None else float(value)
