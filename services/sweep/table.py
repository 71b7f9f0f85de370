"""Shows a sweep's progress: a live table on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamer_core.words import UNKNOWN, duration, plural
from services.logs import line_of
from services.sweep.progress import PHASES, RunState, SweepProgress
from services.sweep.status import SweepStatus
from services.terminal.format import format_number
from services.terminal.live_or_lines import LiveOrLines

_FIXED_LINES = 8  # of the table: frame, totals, headings, the line that counts what is left out
_NAME_WIDTH = 24  # of a game or a node, which alone are cut
_NOTE_WIDTH = 21  # at least, where a run has failed
_HEADINGS = ("game", "seed", "node", "policy steps", "return", "steps/s", "failures")
_LEFT_OUT_FIRST = ("failures", "node", "steps/s", "return")


def render(
    progress: SweepProgress, *, sweep_dir: Path, started_s: float, now_s: float, max_lines: int
) -> RenderableType:
    """Returns the table that a terminal shows: totals, and the running and the failed runs.

    Args:
        progress: where the sweep stands.
        sweep_dir: where it writes.
        started_s: clock at the start of this command.
        now_s: the same clock now.
        max_lines: that the table may take.
    """
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(ProgressBar(total=1.0, completed=progress.share), Text(_counts(progress)))
    shown = [*progress.where("running"), *progress.where("failed")]
    num_rows = max(0, max_lines - _FIXED_LINES)
    body = _Runs(shown[:num_rows], left_out=max(0, len(shown) - num_rows))
    spent, left = duration(now_s - started_s), duration(progress.time_left_s)
    foot = Text(
        f"{spent} so far, {left} left, "
        f"{format_number(progress.policy_steps_per_second)} policy steps/s in all",
        style="bold",
        no_wrap=True,
        overflow="ellipsis",
    )
    return Panel(
        Group(head, "", body, foot),
        title=Text.assemble(("DreamerV2 sweep", "bold"), f" · {sweep_dir}"),
        title_align="left",
        padding=(0, 1),
    )


def _counts(progress: SweepProgress) -> str:
    return f"{progress.share:.0%} · {progress}"


@dataclass(frozen=True, slots=True)
class _Runs:
    """A line a run; where that is too wide, columns are left out and no number is cut."""

    shown: Sequence[RunState]
    left_out: int = 0
    """Further runs, which are counted alone."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [_cells(run) for run in self.shown]
        columns = {heading: [row[index] for row in rows] for index, heading in enumerate(_HEADINGS)}
        width = options.max_width - (_NOTE_WIDTH if any(row[-1] for row in rows) else 0)
        for heading in _LEFT_OUT_FIRST:
            if sum(_width(*column) for column in columns.items()) <= width:
                break
            del columns[heading]
        others = sum(_width(*column) for column in columns.items() if column[0] != "game")
        room = max(1, options.max_width - others - 2)
        table = Table(expand=True, box=None, padding=(0, 1), show_edge=False, pad_edge=False)
        for heading in columns:
            most = {"game": min(room, _NAME_WIDTH), "node": _NAME_WIDTH}.get(heading)
            justify = "right" if most is None else "left"
            title = Text(heading, style="bold")
            table.add_column(title, justify=justify, no_wrap=True, max_width=most)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for *cells, note in zip(*columns.values(), (row[-1] for row in rows), strict=True):
            table.add_row(*cells, note)
        yield table
        if self.left_out:
            yield Text(f"and {self.left_out} more", style="dim")


def _width(heading: str, cells: Sequence[Text]) -> int:
    """Returns the columns of a terminal that a column of the table takes, with what parts it."""
    widest = max(len(heading), *(cell.cell_len for cell in cells), 0)
    return 2 + (min(widest, _NAME_WIDTH) if heading in ("game", "node") else widest)


def _cells(run: RunState) -> list[Text]:
    steps = f"{format_number(run.policy_step)} of {format_number(run.total_policy_steps)}"
    note = f"failed: {run.reason}" if run.phase == "failed" else run.reason
    cells = (
        run.key.game,
        str(run.key.seed),
        run.node or UNKNOWN,
        steps,
        _mean_return(run),
        format_number(run.policy_steps_per_second),
        str(run.failures) if run.failures else "",
    )
    style = "red" if run.phase == "failed" else ""
    return [*(Text(cell, style=style) for cell in cells), Text(note, style=style or "dim")]


def _mean_return(run: RunState) -> str:
    if run.mean_return is None:
        return UNKNOWN
    return f"{format_number(run.mean_return)} (mean of {run.episodes})"


def render_line(progress: SweepProgress) -> str:
    """Returns the progress as one line for a log."""
    speed, left = progress.policy_steps_per_second, progress.time_left_s
    return f"{_counts(progress)}  {format_number(speed)} policy steps/s  {duration(left)} left"


def render_status(status: SweepStatus) -> RenderableType:
    """Returns what `dreamer status` shows of a sweep: totals, scores, and the runs not yet done."""
    progress, games = status.progress, status.progress.games
    seeds = len(progress.runs) // games
    state = "not running" if status.holder is None else f"running: {status.holder}"
    speed = f"{format_number(progress.env_frames_per_second)} env frames/s"
    head = Table(box=None, show_header=False)
    head.add_column(style="dim")
    head.add_column()
    for name, text in (
        ("sweep", str(status.sweep)),
        (
            "preset",
            f"{status.preset}, {plural(games, 'game')} with {plural(seeds, 'seed')} each",
        ),
        ("state", state),
        ("runs", f"{_counts(progress)}"),
        ("games done", f"{progress.games_done} of {games}"),
        ("env frames", f"{progress.env_frames:,}"),
        ("speed", f"{speed}, {duration(progress.time_left_s)} left"),
    ):
        head.add_row(name, Text(text))
    parts: list[RenderableType] = [head]
    begun = [run for run in progress.where("waiting") if run.policy_step or run.failures]
    if shown := [*progress.where("running"), *progress.where("failed"), *begun]:
        parts += ["", _Runs(shown)]
    if done := progress.where("done"):
        parts += ["", _scores(done)]
    return Group(*parts)


def render_end(progress: SweepProgress, sweep_dir: Path) -> RenderableType:
    """Returns what a sweep reached, what failed and why, and where to look."""
    failed = progress.where("failed")
    if not progress.is_over:
        state = "Stopped; the same command resumes it"
    elif failed:
        state = "Ended; the same command tries the failed runs again"
    else:
        state = "Finished (add games or seeds, or raise --steps, to train on)"
    parts: list[RenderableType] = [Text(f"{state}: {_counts(progress)}.")]
    if progress.count("done"):
        parts += ["", _scores(progress.where("done"))]
    if failed:
        parts += ["", _failures(failed)]
    places = Table.grid(padding=(0, 2))
    if progress.count("done"):
        places.add_row("  scores", Text(str(sweep_dir / "scores.json")))
    places.add_row("  what happened", Text(str(sweep_dir / "sweep.log")))
    places.add_row("  logs of the runs", Text(str(sweep_dir / "logs")))
    return Group(*parts, "", places)


def _scores(done: Sequence[RunState]) -> Table:
    """For each game the mean over its seeds, and the range."""
    table = Table("game", "seeds", "evaluation return", "lowest", "highest", box=None)
    for game in dict.fromkeys(run.key.game for run in done):
        runs = [run for run in done if run.key.game == game]
        returns = [run.evaluation_return for run in runs]
        means = [value for value in returns if value is not None]
        numbers = (sum(means) / len(means), min(means), max(means)) if means else (None,) * 3
        table.add_row(Text(game), str(len(means)), *(format_number(number) for number in numbers))
    return table


def _failures(failed: Sequence[RunState]) -> Table:
    table = Table("failed", "tries", "reason of the last", box=None)
    for run in failed:
        table.add_row(Text(str(run.key)), str(run.failures), Text(run.reason))
    return table


class SweepDisplay(LiveOrLines):
    """Draws progress while a sweep is on: `with SweepDisplay(...) as display: display.update(...)`.

    Args:
        sweep_dir: where it writes.
        console: see `LiveOrLines`, as of those that follow.
        is_plain: lines on a terminal too.
        clock_s: seconds, running evenly.
    """

    def __init__(
        self,
        sweep_dir: Path,
        *,
        console: Console | None = None,
        is_plain: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sweep_dir, self._started_s = sweep_dir, clock_s()
        self._progress: SweepProgress | None = None
        super().__init__(console=console, is_plain=is_plain, clock_s=clock_s)

    def update(self, progress: SweepProgress) -> None:
        """Takes over where the sweep stands."""
        self._progress = progress
        self._show()

    def _render(self) -> RenderableType:
        if self._progress is None:
            return ""
        return render(
            self._progress,
            sweep_dir=self._sweep_dir,
            started_s=self._started_s,
            now_s=self._clock_s(),
            max_lines=self.console.height,
        )

    def _line(self) -> str:
        progress = self._progress
        assert progress is not None  # it has news
        return line_of(
            "progress",
            "INFO",
            render_line(progress),
            time.time(),
            **{phase: progress.count(phase) for phase in PHASES},
            env_frames=progress.env_frames,
            env_frames_per_second=progress.env_frames_per_second,
            time_left_s=progress.time_left_s,
        )
