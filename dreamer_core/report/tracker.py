"""Reports to Weights & Biases, for those who keep their experiments there.

It runs in a thread of its own behind a bounded queue: whatever happens to it, a training neither
stops nor waits. Values are drawn against `env_frames`, the x axis of TensorBoard, under the same
tags. Each process of a run goes on in the same run there, known by an id in the run directory.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import math
import os
import queue
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamer_core.config import Config
from dreamer_core.config_tracker import TrackerConfig
from dreamer_core.errors import BadInput
from dreamer_core.fields import to_dict
from dreamer_core.files import write_json
from dreamer_core.report.read import METRICS_FILE, LogReader
from dreamer_core.report.report import Report
from dreamer_core.report.scalars import line_of, scalars_of

logger = logging.getLogger(__name__)

IDENTITY_FILE = "tracker.json"
_PACKAGE = "wandb"
_MOST_WAITING = 10_000  # some hours of reports
_CLOSE_S = 20.0  # longest wait for what has not been sent at the end of a run
_TAIL_BYTES = 1 << 20

_Row = Mapping[str, float]


def require_tracker(config: TrackerConfig) -> None:
    """Raises BadInput where the package of a tracker that is asked for is not installed."""
    if config.wandb is not None and importlib.util.find_spec(_PACKAGE) is None:
        raise BadInput(
            f"--tracker.wandb {config.wandb} needs the package {_PACKAGE}, which is not installed; "
            "install it with: pip install 'dreamerv2-service[wandb]', or make install EXTRAS=wandb"
        )


class Tracker:
    """Takes reports as `RunLog` does and hands their scalars to Weights & Biases.

    A run that goes back to its checkpoint reports again what it had reported: what was told of a
    frame first stands, and is not told twice.

    Args:
        config: of the run.
        run_dir: of the run; claimed, its log opened.
        frames_per_policy_step: env frames of each.
    """

    def __init__(self, config: Config, run_dir: Path, *, frames_per_policy_step: int) -> None:
        self._config, self._run_dir = config, run_dir
        self._frames_per_policy_step = frames_per_policy_step
        self._reached = _last_frame(run_dir / METRICS_FILE)
        self._begun = -1  # what was told up to there stands
        self._has_failed = False
        self._rows: queue.Queue[_Row | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def write(self, report: Report, *, policy_step: int, gradient_step: int) -> None:
        """Takes a report; arguments as `RunLog.write`. Returns at once."""
        if report.is_restart:
            self._begun = self._reached or -1
            return
        frames = self._frames_per_policy_step
        line = line_of(report, policy_step, gradient_step, frames)
        for frame, scalars in scalars_of(report, line, frames):
            finite = {tag: value for tag, value in scalars.items() if math.isfinite(value)}
            if finite and frame > self._begun:
                self._put({"env_frames": frame, "gradient_steps": gradient_step, **finite})
                self._reached = max(self._reached, frame)

    def close(self) -> None:
        """Ends the run there; waits a while for what has not been sent."""
        self._put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._fail(f"it did not take all reports within {_CLOSE_S:g} s")

    def _put(self, row: _Row | None) -> None:
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._fail(f"it is {_MOST_WAITING:,} reports behind")

    def _work(self) -> None:
        """The thread: begins, hands on, ends; after a failure it only empties the queue."""
        row: _Row | None = {}
        last_step = -1
        try:
            run, begun_s = self._init()
            while (row := self._rows.get()) is not None:
                last_step = max(last_step + 1, int((time.time() - begun_s) * 1000))
                # The step grows over all processes of the run; a row waits for no later one.
                run.log(dict(row), step=last_step, commit=True)
            run.finish()
        except Exception as error:  # noqa: BLE001 (whatever it is, the run goes on)
            self._fail(f"{type(error).__name__}: {error}".rstrip("."))
            while row is not None:
                row = self._rows.get()

    def _init(self) -> tuple[Any, float]:
        """Begins or continues the run there; also returns when it was first begun, Unix time."""
        identity = _identity(self._run_dir / IDENTITY_FILE)
        os.environ.setdefault("WANDB_SILENT", "true")  # its words would tear the display
        wandb: Any = importlib.import_module(_PACKAGE)
        config = self._config
        run = wandb.init(
            project=config.tracker.project,
            id=identity["id"],
            name=self._run_dir.name,
            group=f"{config.preset} {config.env.task}",
            dir=str(self._run_dir),
            mode=config.tracker.wandb,
            resume="allow" if config.tracker.wandb == "online" else None,
            config=to_dict(config),
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        run.define_metric("env_frames")
        run.define_metric("*", step_metric="env_frames")
        return run, identity["begun_s"]

    def _fail(self, reason: str) -> None:
        """Says once that reports are missing there."""
        if not self._has_failed:
            self._has_failed = True
            logger.warning(
                "Weights & Biases lacks reports from now on: %s. The run goes on, and its own "
                "files have all of them",
                reason,
            )


def _identity(path: Path) -> dict[str, Any]:
    """The run's id there and when it was begun, made at the first start."""
    if not path.exists():
        write_json(path, {"id": secrets.token_hex(4), "begun_s": time.time()})
    return json.loads(path.read_bytes())


def _last_frame(log: Path) -> int:
    """Env frame of the newest line of a log; 0 without one."""
    last = 0
    for line in LogReader(log, tail_bytes=_TAIL_BYTES, damaged=lambda _: None).read_on():
        last = max(last, line.env_frame)
    return last
