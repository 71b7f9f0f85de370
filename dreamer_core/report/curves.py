"""The learning curve of a run as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dreamer_core.errors import BadInput
from dreamer_core.report.figure import new_figure
from dreamer_core.report.read import (
    METRICS_FILE,
    RUNNING_MEAN_EPISODES,
    CurveLines,
    LogReader,
    Point,
)

CURVE_FILE = "learning_curve.png"

BLUE, ORANGE, GREEN, GREY = "#2a6fbb", "#d9772b", "#2e8b57", "#777777"

AnyAxes: TypeAlias = Any  # matplotlib's own annotations leave arguments unknown


def plot_learning_curve(run_dir: Path | str, random_return: float | None = None) -> Path:
    """Draws a run's returns and world-model losses against environment frames.

    Above: the return of each training episode, their running mean, evaluations and the level of
    random play. Below: image MSE and KL, which move long before returns do.

    Args:
        run_dir: directory of the run, with its metrics.jsonl.
        random_return: mean return of random play; None where it is not known.

    Returns:
        Path of the picture, `learning_curve.png` in the run directory.

    Raises:
        BadInput: the directory holds no metrics, or they are damaged; or see `new_figure`.
        OSError: the picture cannot be written.
    """
    source = Path(run_dir) / METRICS_FILE
    if not source.exists():
        raise BadInput(
            f"a learning curve needs {source}, which does not exist; name the directory of a run"
        )
    points = _read_points(source)
    figure = new_figure(9, 6.5, layout="constrained")
    from matplotlib.ticker import EngFormatter  # noqa: PLC0415 (see figure.py)

    top, image = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_returns(top, points["return"], points["evaluation"], random_return)
    _draw_losses(image, points["image_mse"], points["kl"])
    name = Path(run_dir).resolve().name.encode(errors="replace").decode()  # need not be text
    top.set_title(f"DreamerV2 · {name}", loc="left", weight="bold")
    image.set_xlabel("environment frames (policy steps x action repeat)")
    image.xaxis.set_major_formatter(EngFormatter(sep=""))
    path = Path(run_dir) / CURVE_FILE
    figure.savefig(path, dpi=120)
    return path


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Returns the mean of each value and up to window - 1 before it."""
    return [float(np.mean(values[max(0, i - window + 1) : i + 1])) for i in range(len(values))]


def _read_points(source: Path) -> defaultdict[str, list[Point]]:
    """Returns each curve in the order of frames; of a run of days no more is kept in memory."""
    points: defaultdict[str, list[Point]] = defaultdict(list)
    curves = CurveLines()
    for line in LogReader(source).read_on():
        for name, added in curves.take(line).items():
            if added.replaces_from is not None:
                points[name] = [xy for xy in points[name] if xy[0] < added.replaces_from]
            points[name] += added.points
    for curve in points.values():
        curve.sort()
    return points


def _draw_returns(
    axes: AnyAxes, episodes: list[Point], evaluations: list[Point], random_return: float | None
) -> None:
    frames, returns = _columns(episodes)
    if returns:
        axes.plot(frames, returns, "o", color=BLUE, alpha=0.35, markersize=4, label="episode")
    if len(returns) > 1:
        window = min(RUNNING_MEAN_EPISODES, max(2, len(returns) // 4))  # or a short run looks flat
        mean = running_mean(returns, window)
        axes.plot(frames, mean, color=BLUE, linewidth=2, label=f"mean of last {window} episodes")
    if evaluations:
        axes.plot(*_columns(evaluations), "D", color=ORANGE, markersize=7, label="evaluation")
    if random_return is not None:
        axes.axhline(random_return, color=GREY, linestyle="--", linewidth=1, label="random play")
    if returns or evaluations:
        axes.legend(loc="best", frameon=False)
    else:
        _say_nothing_is_there(axes, "no episode has ended yet")
    axes.set_ylabel("episode return")
    _tidy(axes)


def _draw_losses(axes: AnyAxes, image_mse: list[Point], kl: list[Point]) -> None:
    right = axes.twinx()
    series = (
        (axes, image_mse, "image MSE a pixel", GREEN),
        (right, kl, "KL, nats", ORANGE),
    )
    if not image_mse and not kl:
        _say_nothing_is_there(axes, "no losses have been reported yet")
    for side, points, label, color in series:
        if not points:
            side.set_yticks([])
        frames, values = _columns(points)
        marker = "o" if len(values) < 3 else ""
        side.plot(frames, values, color=color, linewidth=1.5, marker=marker)
        side.set_ylabel(label, color=color)
        side.tick_params(axis="y", colors=color)
        positive = [value for value in values if value > 0]
        if positive and max(positive) > 20 * min(positive):
            side.set_yscale("log")
    _tidy(axes)
    right.spines["top"].set_visible(False)


def _say_nothing_is_there(axes: AnyAxes, words: str) -> None:
    axes.set_yticks([])
    where = {"ha": "center", "va": "center", "color": GREY, "transform": axes.transAxes}
    axes.text(0.5, 0.5, words, **where)


def _tidy(axes: AnyAxes) -> None:
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _columns(points: list[Point]) -> tuple[list[float], list[float]]:
    """Returns the frames and the values."""
    return [x for x, _ in points], [y for _, y in points]
