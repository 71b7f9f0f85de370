"""Where a run stands, read from its directory alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.table import Table

from dreamer_core.config import Config
from dreamer_core.errors import DreamerError, naming
from dreamer_core.report.history import read_history
from dreamer_core.report.read import METRICS_FILE, LogLine
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunPaths, holder, read_config
from dreamer_core.storage.store import open_store
from dreamer_core.words import duration
from services.logs import Ended, how_it_ended
from services.terminal.format import format_number

_TAIL_BYTES = 1_000_000
_LOG_LAGS_S = 600.0  # at most, behind the reports of the process that writes both
_SHOWN = {
    "dreamer_policy_steps_per_second": "policy steps/s",
    "dreamer_gradient_steps_per_second": "gradient steps/s",
    "dreamer_policy_steps_per_gradient_step": "live ratio",
    "dreamer_policy_lag_gradient_steps": "policy lag",
    "dreamer_episodes_total": "episodes",
    "dreamer_episode_return": "last return",
    "dreamer_evaluation_return": "evaluation",
    "dreamer_image_mean_squared_error": "image MSE",
    "dreamer_kl_nats": "KL, nats",
    "dreamer_replay_steps": "replay rows",
    "dreamer_replay_bytes": "replay bytes",
}
"""Metrics, in the words of the table that a terminal shows while a run is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStatus:
    """The newest checkpoint."""

    gradient_step: int
    wall_time_s: float
    """Unix time of its manifest."""
    url: str | None
    """Where checkpoints are kept, if not in the run directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """What a run is, where it stands and its newest numbers; `dreamer status --json` prints it."""

    run: str
    preset: str
    task: str
    seed: int
    holder: str | None
    """Who trains, as `process N on HOST`; None if nobody does."""
    ended: Literal["done"] | Ended | None = None
    """How it ended where nobody trains; None where that is not known, as of `dreamer local`."""
    checkpoint: CheckpointStatus | str | None
    """The reason where it cannot be read; None before the first."""
    steps: int
    """Policy steps after which the run is done."""
    gradient_steps: int | None = None
    """Gradient steps after which a run is done that only takes these, from `replays`; else None."""
    replays: tuple[str, ...] = ()
    """What is trained from where nothing is collected."""
    policy_step: int | None = None
    """Where the run stood by its newest report; None, and so the next three, before the first."""
    env_frame: int | None = None
    gradient_step: int | None = None
    reported_wall_time_s: float | None = None
    """Unix time of the newest report."""
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    """Newest value of each metric."""


def read_status(run_dir: Path) -> RunStatus:
    """Reads where a run stands from its directory.

    Raises:
        RunDirectoryError: the directory holds no run.
        BadInput: its metrics are damaged, or cannot be read.
    """
    config, paths = read_config(run_dir), RunPaths(run_dir)
    status = RunStatus(
        run=str(run_dir),
        preset=config.preset,
        task=config.env.task,
        seed=config.seed,
        holder=holder(paths),
        checkpoint=_newest_checkpoint(config, paths),
        steps=config.steps,
        gradient_steps=config.steps // config.schedule.policy_steps_per_gradient_step
        if config.offline.is_on
        else None,
        replays=config.offline.replays,
    )
    with naming(f"read {run_dir / METRICS_FILE}", "Mend its permissions"):
        history = read_history(run_dir, tail_bytes=_TAIL_BYTES)
    newest = history.newest
    ended = None if status.holder else _ended(paths, newest)
    if newest is None:
        return replace(status, ended=ended)
    is_done = newest.policy_step >= status.steps and ended in (None, "stopped")
    return replace(
        status,
        ended="done" if is_done and status.holder is None else ended,
        policy_step=newest.policy_step,
        env_frame=newest.env_frame,
        gradient_step=newest.gradient_step,
        reported_wall_time_s=newest.wall_time_s,
        values=history.values,
    )


def render_status(status: RunStatus) -> Table:
    """Returns a table of it."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("run", status.run)
    table.add_row("preset", f"{status.preset}, task {status.task}, seed {status.seed}")
    table.add_row("state", _state(status))
    table.add_row("newest checkpoint", _checkpoint(status.checkpoint))
    for name, text in _progress(status):
        table.add_row(name, text)
    return table


def as_json(status: RunStatus) -> str:
    """Returns it as a JSON object; numbers that JSON does not know are null."""
    content = asdict(status)
    content["values"] = {k: v if math.isfinite(v) else None for k, v in status.values.items()}
    return json.dumps(content, indent=2)


def _state(status: RunStatus) -> str:
    if status.holder is not None:
        return f"running: {status.holder}"
    how = {"failed": "failed, as `dreamer logs` tells"}.get(str(status.ended), status.ended)
    return "not running" if how is None else f"not running: {how}"


def _progress(status: RunStatus) -> Iterator[tuple[str, str]]:
    """Yields where the run stood by its newest report, and the newest of the shown numbers."""
    if status.policy_step is None or status.reported_wall_time_s is None:
        yield "progress", "no report yet"
        return
    share = status.policy_step / status.steps
    if status.gradient_steps is not None:
        total = f"{status.gradient_steps:,} ({share:.0%})"
        yield "gradient steps", f"{status.gradient_step:,} of {total}"
        yield "trained from", ", ".join(status.replays)
    else:
        yield "policy steps", f"{status.policy_step:,} of {status.steps:,} ({share:.0%})"
        yield "env frames", f"{status.env_frame:,}"
        yield "gradient steps", f"{status.gradient_step:,}"
    yield "newest report", _ago(status.reported_wall_time_s)
    for name, words in _SHOWN.items():
        if name in status.values:
            yield words, format_number(status.values[name])


def _ago(wall_time_s: float) -> str:
    """How long ago that was; nothing is in the future, whatever a clock says that was set back."""
    return f"{duration(max(0.0, time.time() - wall_time_s))} ago"


def _ended(paths: RunPaths, newest: LogLine | None) -> Ended | None:
    """How the newest process ended; None where that keeps no log, as `dreamer local`."""
    with naming(f"read {paths.log}", "Mend its permissions"):
        ended = how_it_ended(paths.log)
        is_of_it = (
            ended is None
            or newest is None
            or (newest.wall_time_s < paths.log.stat().st_mtime + _LOG_LAGS_S)
        )
    return ended if is_of_it else None


def _newest_checkpoint(config: Config, paths: RunPaths) -> CheckpointStatus | str | None:
    """What the newest manifest says; a place that cannot be read must not hide the rest."""
    try:
        found = checkpoint.newest(open_store(config.checkpoint, paths.checkpoints))
    except DreamerError as error:
        return str(error)
    if found is None:
        return None
    url = config.checkpoint.url
    return CheckpointStatus(gradient_step=found.step, wall_time_s=found.wall_time_s, url=url)


def _checkpoint(found: CheckpointStatus | str | None) -> str:
    if not isinstance(found, CheckpointStatus):
        return "none yet" if found is None else f"unknown: {found}"
    where = f" in {found.url}" if found.url is not None else ""
    return f"gradient step {found.gradient_step:,}, {_ago(found.wall_time_s)}{where}"
