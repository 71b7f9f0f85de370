"""Curves of runs over their frames, and the mean and spread of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamer_core.errors import BadInput
from dreamer_core.page.charts import Curve, Reference, line_chart
from dreamer_core.page.diagnostics import Diagnostic
from dreamer_core.page.markup import Html
from dreamer_core.page.records import ALL, RunRecord, Variant
from dreamer_core.report.evaluated import LastEpisodes
from dreamer_core.report.read import RUNNING_MEAN_EPISODES, Point
from dreamer_core.scores.table import NOT_IN_TABLE, game_named, table_k1

FRAMES = "environment frames"


@dataclass(frozen=True, slots=True)
class Seeds:
    """Curves of several seeds on one grid of frames."""

    mean: list[Point]
    """Of those seeds that are there."""
    band: list[tuple[float, float, float]]
    """x, and the mean less and plus a standard deviation (n - 1); where two seeds are there."""


def together(curves: Sequence[Sequence[Point]], limit: int) -> Seeds:
    """Returns mean and spread of curves, each between its own first and last point.

    Args:
        curves: ascending in x; empty ones are left out.
        limit: points at most.
    """
    given = [np.array(thinned(each, limit)) for each in curves if each]
    if not given:
        return Seeds([], [])
    xs = np.unique(np.concatenate([each[:, 0] for each in given]))
    if len(xs) > limit:
        xs = np.linspace(xs[0], xs[-1], limit)
    rows = [np.interp(xs, g[:, 0], g[:, 1], left=np.nan, right=np.nan) for g in given]
    table = np.stack(rows)  # [seeds, points]
    is_there = ~np.isnan(table)
    count = is_there.sum(axis=0)
    total = np.where(is_there, table, 0.0).sum(axis=0)
    mean = total / np.maximum(count, 1)
    squares = np.where(is_there, (table - mean) ** 2, 0.0).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(count - 1, 1))
    points = [(float(x), float(m)) for x, m, n in zip(xs, mean, count, strict=True) if n]
    band = [
        (float(x), float(m - s), float(m + s))
        for x, m, s, n in zip(xs, mean, spread, count, strict=True)
        if n > 1
    ]
    return Seeds(points, band)


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """Returns the means of stretches of a curve, so many points at most; the last x is kept."""
    if len(points) <= limit:
        return list(points)
    parts = np.array_split(np.array(points), limit)
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def smoothed(episodes: LastEpisodes | None) -> list[Point]:
    """Returns the mean of each training episode and those before it, RUNNING_MEAN_EPISODES."""
    if episodes is None:
        return []
    returns = np.array([each.episode_return for each in episodes.episodes])
    sums = np.concatenate([[0.0], np.cumsum(returns)])
    last = np.arange(1, len(returns) + 1)
    first = np.maximum(0, last - RUNNING_MEAN_EPISODES)
    means = (sums[last] - sums[first]) / (last - first)
    return [(e.env_frame, float(m)) for e, m in zip(episodes.episodes, means, strict=True)]


def evaluated(episodes: LastEpisodes | None) -> list[Point]:
    """Returns the mean of the evaluation episodes of each frame."""
    by_frame: dict[float, list[float]] = {}
    for each in episodes.episodes if episodes else ():
        by_frame.setdefault(each.env_frame, []).append(each.episode_return)
    return [(frame, sum(values) / len(values)) for frame, values in by_frame.items()]


def returns_chart(task: str, variants: Sequence[Variant], limit: int) -> Html:
    """Returns the learning curves of a task: evaluation in full, training dashed."""
    curves: list[Curve] = []
    runs = [run for variant in variants for run in variant.of(task)]
    for color, variant in enumerate(variants):
        mine = variant.of(task)
        train = together([smoothed(run.history.training.last(episodes=ALL)) for run in mine], limit)
        label = variant.label
        curves.append(
            Curve(points=train.mean, label=f"{label}, training", color=color, look="dotted")
        )
        points = [evaluated(run.history.evaluations.last(episodes=ALL)) for run in mine]
        curves += _seeds(points, label, color, limit)
    return line_chart(
        curves,
        name=f"Returns of {task} over environment frames",
        x_title=FRAMES,
        y_title="return of an episode",
        references=references(runs),
        empty="no episode has ended yet",
    )


def metric_chart(
    drawn: Diagnostic, task: str, variants: Sequence[Variant], limit: int
) -> Html | None:
    """Returns one number of a task's runs over their frames; None if none reported it."""
    curves: list[Curve] = []
    for color, variant in enumerate(variants):
        points = [run.series.get(drawn.name, []) for run in variant.of(task)]
        curves += _seeds(points, variant.label, color, limit)
    if not any(curve.points for curve in curves):
        return None
    return line_chart(
        curves,
        name=f"{drawn.title}, {task}",
        x_title=FRAMES,
        y_title=drawn.title,
        may_be_log=drawn.may_be_log,
    )


def _seeds(points: Sequence[Sequence[Point]], label: str, color: int, limit: int) -> list[Curve]:
    seeds = together(points, limit)
    return [Curve(points=seeds.mean, band=seeds.band, label=label, color=color)]


def references(runs: Sequence[RunRecord]) -> list[Reference]:
    """Returns random play, a gamer and the paper's agent where runs play one of its games."""
    game = paper_game(runs)
    if game is None:
        return []
    row = table_k1()[game]
    return [
        Reference(row.random, "random"),
        Reference(row.gamer, "gamer"),
        Reference(row.dreamerv2, "DreamerV2 at 200M"),
    ]


def paper_game(runs: Sequence[RunRecord]) -> str | None:
    """Returns which of the games of Table K.1 runs of one task play; None if none."""
    if not runs or any(run.suite != "atari" for run in runs):
        return None
    try:
        game = game_named(runs[0].task)
    except BadInput:
        return None
    return None if game in NOT_IN_TABLE else game
