"""Shows a run's progress: a live table on a terminal, a line now and then in a log.

`Progress` is a value that each report advances; drawing it is a pure function of it and the time.
So the drawing thread of `rich` reads one reference and needs no lock.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamer_core.report.report import Report
from dreamer_core.words import duration
from services.logs import line_of
from services.terminal.format import called_as, format_number
from services.terminal.live_or_lines import LINE_INTERVAL_S, LiveOrLines
from services.terminal.progress import RECENT_EPISODES, Progress
from services.terminal.sparkline import ReturnCurve, sparkline

_BESIDE_COLUMNS = 74  # of a terminal of 80: its frame takes 4


def _rows(progress: Progress) -> dict[str, list[tuple[str, str]]]:
    """Returns the cells of the table: (label, value) pairs under each of three headings."""
    values, returns = progress.values, progress.returns

    def value(name: str) -> str:
        return format_number(values.get(name))

    has_image = "dreamer_image_mean_squared_error" in values
    is_vector_alone = "dreamer_vector_mean_squared_error" in values and not has_image
    seen = "vector" if is_vector_alone else "image"
    return {
        "progress": [
            ("env frames", format_number(progress.env_frames)),
            ("gradient steps", format_number(progress.gradient_step)),
            ("policy steps/s", format_number(progress.policy_steps_per_second)),
            ("gradient steps/s", format_number(progress.gradient_steps_per_second)),
            ("live ratio", value("dreamer_policy_steps_per_gradient_step")),
            ("policy lag", value("dreamer_policy_lag_gradient_steps")),
        ],
        "returns": [
            ("last", format_number(returns[-1] if returns else None)),
            (f"mean of {len(returns)}" if returns else "mean", format_number(progress.mean_return)),
            ("evaluation", value("dreamer_evaluation_return")),
            ("episodes", value("dreamer_episodes_total")),
            ("replay rows", value("dreamer_replay_steps")),
            ("imagined return", value("dreamer_actor_target_mean")),
        ],
        "losses": [
            (f"{seen} MSE", value(f"dreamer_{seen}_mean_squared_error")),
            ("KL, nats", value("dreamer_kl_nats")),
            ("reward", value("dreamer_reward_loss")),
            ("actor", value("dreamer_actor_loss")),
            ("critic", value("dreamer_critic_loss")),
            ("actor entropy", value("dreamer_actor_entropy_nats")),
        ],
    }


def _collecting(progress: Progress) -> str:
    """Says which parts of the time of collecting went where; "" while that is not known."""
    names = ("env", "render", "policy")
    env, rendering, policy = (
        progress.values.get(f"dreamer_{name}_seconds_total", 0.0) for name in names
    )
    if env + policy == 0:
        return ""
    env, rendering, policy = (x / (env + policy) for x in (env, rendering, policy))
    of_it = f" ({rendering:.0%} rendering)" if rendering else ""
    return f"collecting: {env:.0%} environment{of_it}, {policy:.0%} policy"


@dataclass(frozen=True, slots=True)
class _Sections:
    """The cells beside each other, or where that is too narrow one section below the other."""

    cells: dict[str, list[tuple[str, str]]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= _BESIDE_COLUMNS:
            yield self._table(list(self.cells))
            return
        for heading in self.cells:
            yield self._table([heading])

    def _table(self, headings: list[str]) -> Table:
        table = Table(expand=True, box=None, padding=(0, 1), show_edge=False, pad_edge=False)
        for heading in headings:
            table.add_column(Text(heading, style="bold"), style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        for cells in zip(*(self.cells[heading] for heading in headings), strict=True):
            table.add_row(*(text for cell in cells for text in cell))
        return table


def render(
    progress: Progress, *, run_dir: Path | str, metrics_url: str | None, now_s: float
) -> RenderableType:
    """Returns the table that a terminal shows.

    Args:
        progress: where the run stands.
        run_dir: where it writes.
        metrics_url: where Prometheus scrapes it; None if nowhere.
        now_s: the clock that `progress.started_s` was read from.
    """
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right", no_wrap=True)
    head.add_row(
        ProgressBar(total=1.0, completed=progress.share),
        Text(f"{progress.share:.0%} · {progress.done}"),
    )
    body = _Sections(_rows(progress))
    spent, left = duration(now_s - progress.started_s), duration(progress.time_left_s)
    foot = Text(f"{spent} so far, {left} left", style="bold")
    if not progress.is_offline:
        words = f"   see it play: {called_as()} watch {shlex.quote(str(run_dir))}"
        foot.append(words, style="not bold dim")
    below = [_collecting(progress), progress.curve and sparkline(progress.curve)]
    title = Text.assemble(("DreamerV2", "bold"), f" · {run_dir}")
    return Panel(
        Group(head, "", body, "", *(line for line in below if line), foot),
        title=title,
        title_align="left",
        subtitle=f"metrics at {metrics_url}" if metrics_url else None,
        subtitle_align="left",
        padding=(0, 1),
    )


def render_line(progress: Progress) -> str:
    """Returns the progress as one line for a log."""
    cells = dict(cell for cells in _rows(progress).values() for cell in cells)
    mean = format_number(progress.mean_return)
    collecting = _collecting(progress)
    curve = progress.curve and sparkline(progress.curve)
    error = next(label for label in cells if label.endswith(" MSE"))
    left = duration(progress.time_left_s)
    if progress.is_offline:
        done = f"{progress.share:4.0%}  {progress.done} ({cells['gradient steps/s']}/s)"
        losses = f"{error} {cells[error]}  KL {cells['KL, nats']}"
        return f"{done}  evaluation {cells['evaluation']}  {losses}  {left} left"
    return (
        f"{progress.share:4.0%}  {format_number(progress.policy_step)} policy steps"
        f" ({cells['env frames']} frames, {cells['policy steps/s']}/s)"
        f"  {cells['gradient steps']} gradient steps ({cells['gradient steps/s']}/s)"
        f"  ratio {cells['live ratio']}"
        f"  lag {cells['policy lag']}"
        f"  return {cells['last']} (mean of {len(progress.returns)}: {mean})"
        f"  {error} {cells[error]}  KL {cells['KL, nats']}"
        f"{collecting and f'  {collecting}'}"
        f"{f'  {curve}' if curve else ''}"
        f"  {left} left"
    )


class Display(LiveOrLines):
    """Draws progress while a run is on: `with Display(...) as display: display.update(...)`.

    Args:
        total_policy_steps: length of the run.
        total_gradient_steps: that fall due by then; None if that is not known.
        is_offline: whether it only takes these.
        run_dir: where it writes.
        curve: to which the returns are added; None draws none.
        returns: of the last training episodes before this process, oldest first.
        values: newest of each metric before this process.
        console: see `LiveOrLines`, as of those that follow.
        line_interval_s: between lines.
        is_plain: lines on a terminal too.
        clock_s: seconds, running evenly.
    """

    def __init__(
        self,
        total_policy_steps: int,
        run_dir: Path | str,
        *,
        total_gradient_steps: int | None = None,
        is_offline: bool = False,
        curve: ReturnCurve | None = None,
        returns: tuple[float, ...] = (),
        values: Mapping[str, float] | None = None,
        console: Console | None = None,
        line_interval_s: float = LINE_INTERVAL_S,
        is_plain: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_dir = run_dir
        self._metrics_url: str | None = None
        self._reported_s = clock_s()
        self.progress = Progress(
            total_policy_steps=total_policy_steps,
            total_gradient_steps=total_gradient_steps,
            is_offline=is_offline,
            started_s=clock_s(),
            curve=curve,
            returns=returns[-RECENT_EPISODES:],
            values=MappingProxyType(dict(values or {})),
        )
        """Where the run stands, by the reports so far."""
        super().__init__(
            console=console, line_interval_s=line_interval_s, is_plain=is_plain, clock_s=clock_s
        )

    def set_metrics_url(self, url: str) -> None:
        """Shows where Prometheus scrapes the run, once that is known."""
        self._metrics_url = url
        if self._live is not None:
            self._live.start()

    def update(self, report: Report, policy_step: int, gradient_step: int) -> None:
        """Takes over one report and where the run stood when it came."""
        self._reported_s = self._clock_s()
        self.progress = self.progress.advance(
            report, policy_step=policy_step, gradient_step=gradient_step
        )
        self._show()

    def _render(self) -> RenderableType:
        return render(
            self.progress,
            run_dir=self._run_dir,
            metrics_url=self._metrics_url,
            now_s=self._clock_s(),
        )

    def _line(self) -> str:
        progress, age_s = self.progress, self._clock_s() - self._reported_s
        is_old = age_s >= self._line_interval_s
        return line_of(
            "progress",
            "INFO",
            render_line(progress) + (f"  (nothing new for {age_s:.0f} s)" if is_old else ""),
            time.time(),
            policy_step=progress.policy_step,
            gradient_step=progress.gradient_step,
            policy_steps_per_second=progress.policy_steps_per_second,
            gradient_steps_per_second=progress.gradient_steps_per_second,
            mean_return=progress.mean_return,
            left_s=progress.time_left_s,
        )
