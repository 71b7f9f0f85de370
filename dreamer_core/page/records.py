"""Runs as they lie there: their config, their curves, and which of them belong together.

Nothing is written. A run may be running, torn, or hardly begun: what is not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dreamer_core.errors import BadInput, naming
from dreamer_core.page.diagnostics import DRAWN
from dreamer_core.report.history import RunHistory
from dreamer_core.report.metrics import is_of_newest_weights
from dreamer_core.report.read import METRICS_FILE, LogLine, LogReader, Point
from dreamer_core.scores.run_config import read_run_config
from dreamer_core.scores.runs import CONFIG_FILE, SWEEP_FILE
from dreamer_core.scores.stamp import Stamp, preset_of, protocol_of
from dreamer_core.storage.named import run_named
from dreamer_core.storage.run_directory import RunPaths, holder
from dreamer_core.words import few, plural

ALL = 10**9
"""Episodes, where none are to be left out."""
_KEPT_POINTS = 1_000  # of a curve, twice as many at most
_SHOWN_SETTINGS = 3  # in the name of a variant


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, as its directory tells."""

    run_dir: Path
    config: dict[str, Any]
    """As config.json holds it, of whatever version."""
    series: dict[str, list[Point]]
    """Metrics that are drawn, to their values by env frame, ascending; of a long run, older ones
    are means of several."""
    history: RunHistory
    """Where it stands, its evaluation and its training episodes."""
    wall_s: float
    """From the first line of its log to the last."""
    holder: str | None
    """Who trains there now; None if nobody does."""
    warnings: tuple[str, ...] = ()

    @property
    def suite(self) -> str:
        """Where its task comes from."""
        return str(self.config.get("env", {}).get("suite", "atari"))

    @property
    def task(self) -> str:
        """As its config names it."""
        return str(self.config.get("env", {}).get("task", "?"))

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config.get("seed", 0))

    @property
    def preset(self) -> str:
        """That its config was made from."""
        return preset_of(self.config)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one to play with, as far as can be told without reading it."""
        if self.config.get("checkpoint", {}).get("url"):
            return True
        return (RunPaths(self.run_dir).checkpoints / "LATEST").is_file()


@dataclass(frozen=True, slots=True)
class Variant:
    """Runs of one preset and the same settings; they differ in task and seed alone."""

    label: str
    """The preset, and those settings that tell it from the page's other variants."""
    runs: tuple[RunRecord, ...]

    def of(self, task: str) -> list[RunRecord]:
        """Its runs of a task."""
        return [run for run in self.runs if run.task == task]


def run_dirs(paths: Iterable[Path]) -> list[Path]:
    """Returns the runs at the paths, each once: run directories, `demo`, or those of a sweep.

    Raises:
        BadInput: a path is none of these, or a sweep without a run that was begun.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        with naming(f"read {path}", "Name a run directory or a sweep directory"):
            found |= {each.resolve(): each for each in _runs_at(run_named(path))}
    return list(found.values())


def _runs_at(path: Path) -> list[Path]:
    if (path / CONFIG_FILE).is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"There is no directory {path}; name that of a run or of a sweep")
    within = sorted(each.parent for each in path.glob(f"*/{CONFIG_FILE}"))
    if (path / SWEEP_FILE).is_file():
        if within:
            return within
        raise BadInput(f"No run of the sweep in {path} is begun; `dreamer sweep` begins them")
    hint = f"; {plural(len(within), 'run')} lie in it: name {path}/*" if within else ""
    raise BadInput(
        f"{path} holds neither a run ({CONFIG_FILE}) nor a sweep ({SWEEP_FILE}){hint}. Name the "
        "directories that `dreamer train`, `local` or `sweep` printed"
    )


def read_run(run_dir: Path) -> RunRecord:
    """Returns what a run directory tells.

    Raises:
        BadInput: its config or its metrics cannot be read.
    """
    config = read_run_config(run_dir / CONFIG_FILE)
    log = _Log()
    damaged: list[str] = []
    reader = LogReader(run_dir / METRICS_FILE, damaged=damaged.append)
    with naming(f"read the metrics of {run_dir}", "Mend their permissions"):
        for line in reader.read_on():
            log.take(line)
    warnings = list[str]()
    if damaged:
        lines = plural(len(damaged), "damaged line")
        warnings.append(f"{lines} of its metrics left out, the first: {damaged[0]}")
    return RunRecord(
        run_dir=run_dir,
        config=config,
        series=log.series,
        history=log.history,
        wall_s=log.wall_s,
        holder=holder(RunPaths(run_dir)),
        warnings=tuple(warnings),
    )


@dataclass(slots=True)
class _Log:
    """What is kept of the lines of a run; where it went back, the later ones count."""

    series: dict[str, list[Point]] = field(default_factory=dict[str, list[Point]])
    history: RunHistory = field(default_factory=RunHistory)
    wall_s: float = 0.0
    _began_s: float | None = None

    def take(self, line: LogLine) -> None:
        self.history.take(line)
        if not is_of_newest_weights(line):
            return
        if self._began_s is None:
            self._began_s = line.wall_time_s
        self.wall_s = max(self.wall_s, line.wall_time_s - self._began_s)
        for name in DRAWN & line.values.keys():
            if math.isfinite(line.values[name]):
                self._add(name, (float(line.env_frame), line.values[name]))

    def _add(self, name: str, point: Point) -> None:
        points = self.series.setdefault(name, [])
        while points and points[-1][0] >= point[0]:  # a frame has one value, the newest
            points.pop()
        points.append(point)
        if len(points) > 2 * _KEPT_POINTS:  # of a run of weeks there are millions
            pairs = zip(points[:-1:2], points[1::2], strict=True)
            means = [(later[0], (one[1] + later[1]) / 2) for one, later in pairs]
            points[:] = [*means, points[-1]]


_Same: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]  # preset and what differs from it


def variants(records: Sequence[RunRecord]) -> list[Variant]:
    """Returns the runs by preset and settings, in the order in which they were named."""
    groups: dict[_Same, list[RunRecord]] = {}
    for record in records:
        settings = _settings_of(protocol_of(record.config))
        same = (record.preset, tuple(sorted(settings.items())))
        groups.setdefault(same, []).append(record)
    return [Variant(_label(same, list(groups)), tuple(runs)) for same, runs in groups.items()]


def _settings_of(stamp: Stamp) -> dict[str, str]:
    """Returns the settings of a stamp that differ from its preset."""
    return {name: str(value) for name, value in stamp.items() if "." in name}


def _label(same: _Same, others: Sequence[_Same]) -> str:
    preset, settings = same
    rivals = [dict(each[1]) for each in others if each[0] == preset]
    telling = [
        f"{name.rpartition('.')[2]} {value}"
        for name, value in settings
        if any(rival.get(name) != value for rival in rivals)
    ]
    if not telling:
        return preset if len(rivals) == 1 else f"{preset}, as it is"
    return f"{preset}, {few(telling, _SHOWN_SETTINGS)}"
