"""What a run leaves of its reports: metrics.jsonl and TensorBoard's event files."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from dreamer_core.errors import naming
from dreamer_core.report.about import About
from dreamer_core.report.events import EventFile, append_whole
from dreamer_core.report.mend import cut_torn_line, take_back
from dreamer_core.report.read import METRICS_FILE, LogLine
from dreamer_core.report.report import Report
from dreamer_core.report.scalars import line_of, scalars_of

logger = logging.getLogger(__name__)

TENSORBOARD_DIRECTORY = "tensorboard"


class RunLog:
    """Writes reports to `metrics.jsonl` and to TensorBoard event files in a run directory.

    Opening a directory that holds a log continues it; a last line torn by a kill is cut off. Each
    line is flushed, so a kill of the process loses none. TensorBoard's x axis is environment
    frames (policy steps x frames of each), the axis of the published Atari curves; its tags are
    those of `tag_of`.

    A run that goes on from a checkpoint reports again what came after it: a report that
    `is_restart` takes that back first, so that both hold one value a step.

    What cannot be written, since the disk is full, is left out and counted: a run is worth more
    than its log.

    Args:
        run_dir: directory of the run; made if it does not exist.
        frames_per_policy_step: env frames of each.
        about: what the run is, which TensorBoard shows wherever the run goes on.

    Raises:
        BadInput: the files cannot be opened. Failed: the disk is full.
    """

    def __init__(
        self, run_dir: Path | str, *, frames_per_policy_step: int, about: About | None = None
    ) -> None:
        self.path = Path(run_dir) / METRICS_FILE
        self._about = about
        self._frames_per_policy_step = frames_per_policy_step
        self.dropped_reports = 0
        """Reports that could not be written, in full or in part."""
        self._is_failing = False
        with naming(f"log to {self.path.parent}", "Make room, or mend its permissions"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            cut_torn_line(self.path)
            self._file = self.path.open("ab", buffering=0)
            self._events = EventFile(self.path.parent / TENSORBOARD_DIRECTORY)

    def write(self, report: Report, *, policy_step: int, gradient_step: int) -> None:
        """Appends one report.

        Args:
            report: what a service measured.
            policy_step: policy steps of the run by now.
            gradient_step: gradient steps of the run by now.

        Raises:
            KeyError: a metric name is unknown, or lacks a label; nothing is written.
        """
        if report.is_restart:
            self._take_back(policy_step, gradient_step)
            return
        line = line_of(report, policy_step, gradient_step, self._frames_per_policy_step)
        text = json.dumps(_as_json(line), allow_nan=False) + "\n"
        try:
            if line.values or report.episodes:
                append_whole(self._file, text.encode())
            self._write_events(report, line)
        except OSError as error:
            if not self._is_failing:
                logger.error("%s: reports are left out until this ends: %s", self.path, error)  # noqa: TRY400
            self.dropped_reports += 1
            self._is_failing = True
        else:
            self._is_failing = False

    def _take_back(self, policy_step: int, gradient_step: int) -> None:
        """Takes back what was reported of later steps; where it cannot, the log says it twice."""
        try:
            count = take_back(self.path, policy_step=policy_step, gradient_step=gradient_step)
            if count:
                logger.info("%s: took back %d lines of later steps", self.path, count)
                self._file.close()
                self._file = self.path.open("ab", buffering=0)
            self._events.restart(policy_step * self._frames_per_policy_step)
            if self._about is not None:
                self._events.describe(policy_step * self._frames_per_policy_step, self._about)
        except OSError as error:
            logger.warning("%s: later steps are logged twice: %s", self.path, error)

    def _write_events(self, report: Report, line: LogLine) -> None:
        for frame, scalars in scalars_of(report, line, self._frames_per_policy_step):
            self._events.add(frame, line.wall_time_s, scalars)
        self._events.add_pictures(line.env_frame, line.wall_time_s, report.pictures)

    def close(self) -> None:
        """Closes both files; a second call does nothing."""
        if not self._file.closed:
            self._file.close()
            self._events.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _as_json(line: LogLine) -> Any:
    """Returns a line as JSON holds it; an episode's info only where there is any."""
    content = asdict(line)
    for episode in content["episodes"]:
        if not episode["info"]:
            del episode["info"]
    return _without_nan(content)


def _without_nan(value: Any) -> Any:
    """Returns the same nested structure with None in place of floats that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _without_nan(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in cast("Iterable[Any]", value)]
    return value
