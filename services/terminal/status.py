"""Where a run stands, read from its directory alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from dreamer_core.config import Config
from dreamer_core.errors import DreamerError, naming
from dreamer_core.report.metrics import is_of_newest_weights
from dreamer_core.report.read import METRICS_FILE, read_jsonl
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunPaths, holder, read_config
from dreamer_core.storage.store import open_store
from services.terminal.format import format_duration, format_number

_TAIL_BYTES = 1_000_000
_SHOWN = (
    "dreamer_policy_steps_per_second",
    "dreamer_gradient_steps_per_second",
    "dreamer_policy_steps_per_gradient_step",
    "dreamer_policy_lag_gradient_steps",
    "dreamer_episodes_total",
    "dreamer_episode_return",
    "dreamer_evaluation_return",
    "dreamer_image_mean_squared_error",
    "dreamer_kl_nats",
    "dreamer_replay_steps",
    "dreamer_replay_bytes",
)


def render_status(run_dir: Path) -> Table:
    """Returns a table of what the run is, where it stands and its newest numbers.

    Raises:
        RunDirectoryError: the directory holds no run.
        BadInput: its metrics are damaged, or cannot be read.
    """
    config, paths = read_config(run_dir), RunPaths(run_dir)
    who = holder(paths)
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("run", str(run_dir))
    table.add_row("preset", f"{config.preset}, task {config.env.task}, seed {config.seed}")
    table.add_row("state", "not running" if who is None else f"running: {who}")
    table.add_row("newest checkpoint", _newest_checkpoint(config, paths))
    for name, text in _progress(config, run_dir / METRICS_FILE):
        table.add_row(name, text)
    return table


def _progress(config: Config, log: Path) -> Iterator[tuple[str, str]]:
    """Yields where the run stood by its newest report, and the newest of the shown numbers."""
    with naming(f"read {log}", "Mend its permissions"):
        lines = read_jsonl(log, tail_bytes=_TAIL_BYTES)
    newest, values = None, dict[str, float]()
    for line in lines:
        if is_of_newest_weights(line):
            newest = line
            values.update(line.values)
    if newest is None:
        yield "progress", "no report yet"
        return
    share = newest.policy_step / config.steps
    yield "policy steps", f"{newest.policy_step:,} of {config.steps:,} ({share:.0%})"
    yield "env frames", f"{newest.env_frame:,}"
    yield "gradient steps", f"{newest.gradient_step:,}"
    yield "newest report", _ago(newest.wall_time_s)
    for name in _SHOWN:
        if name in values:
            yield name, format_number(values[name])


def _ago(wall_time_s: float) -> str:
    """How long ago that was; nothing is in the future, whatever a clock says that was set back."""
    return f"{format_duration(max(0.0, time.time() - wall_time_s))} ago"


def _newest_checkpoint(config: Config, paths: RunPaths) -> str:
    """What the newest manifest says; a place that cannot be read must not hide the rest."""
    try:
        found = checkpoint.newest(open_store(config.checkpoint, paths.checkpoints))
    except DreamerError as error:
        return f"unknown: {error}"
    if found is None:
        return "none yet"
    where = f" in {config.checkpoint.url}" if config.checkpoint.url is not None else ""
    return f"gradient step {found.step:,}, {_ago(found.wall_time_s)}{where}"
