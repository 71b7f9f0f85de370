"""Pictures that people look at: learning curves, open-loop predictions, videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from PIL import Image

from dreamer_core.report.report import METRICS_FILE, LogLine, iterate_jsonl
from dreamer_core.types import FloatArray, UInt8Array

CURVE_FILE = "learning_curve.png"
RUNNING_MEAN_EPISODES = 20
MAX_COLUMNS = 16
TILE_PIXELS = 128
DPI = 100
GAP_PIXELS, TITLE_PIXELS, LEFT_PIXELS, RIGHT_PIXELS, BELOW_PIXELS = 6, 44, 64, 12, 32
MIN_WIDTH_PIXELS = 720
VIDEO_SCALE = 4
VIDEO_SUFFIXES = (".gif", ".mp4")

BLUE, ORANGE, GREEN, GREY = "#2a6fbb", "#d9772b", "#2e8b57", "#777777"

Pixels: TypeAlias = UInt8Array | FloatArray | npt.NDArray[np.float64]
AnyAxes: TypeAlias = Any  # matplotlib's own annotations leave arguments unknown
Points: TypeAlias = tuple[list[float], list[float]]


def plot_learning_curve(run_dir: Path | str) -> Path:
    """Draws a run's returns and world-model losses against environment frames.

    Above: the return of each training episode, their running mean, and evaluations. Below: image
    MSE and KL, which move long before returns do.

    Args:
        run_dir: directory of the run, with its metrics.jsonl.

    Returns:
        Path of the picture, `learning_curve.png` in the run directory.

    Raises:
        FileNotFoundError: the directory holds no metrics.
        ValueError: the metrics file is damaged.
    """
    source = Path(run_dir) / METRICS_FILE
    if not source.exists():
        raise FileNotFoundError(
            f"a learning curve needs {source}, which does not exist; name the directory of a run"
        )
    # Of a run of days only the drawn lines are kept in memory.
    drawn = ("learner", "evaluator")
    lines = [x for x in iterate_jsonl(source) if x.episodes or x.service in drawn]
    figure = _figure(9, 6.5)
    top, image = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_returns(top, lines)
    _draw_losses(image, lines)
    top.set_title(f"DreamerV2 · {Path(run_dir).resolve().name}", loc="left", weight="bold")
    image.set_xlabel("environment frames (policy steps x action repeat)")
    image.xaxis.set_major_formatter(EngFormatter(sep=""))
    path = Path(run_dir) / CURVE_FILE
    figure.savefig(path, dpi=120)
    return path


def _figure(width_inches: float, height_inches: float) -> Any:
    """Returns a figure on the Agg backend, whatever backend pyplot would choose."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Returns the mean of each value and up to window - 1 before it."""
    return [float(np.mean(values[max(0, i - window + 1) : i + 1])) for i in range(len(values))]


def _draw_returns(axes: AnyAxes, lines: list[LogLine]) -> None:
    frames, returns = _training_episodes(lines)
    if returns:
        axes.plot(frames, returns, "o", color=BLUE, alpha=0.35, markersize=4, label="episode")
    if len(returns) > 1:
        label = f"mean of last {min(len(returns), RUNNING_MEAN_EPISODES)} episodes"
        mean = running_mean(returns, RUNNING_MEAN_EPISODES)
        axes.plot(frames, mean, color=BLUE, linewidth=2, label=label)
    evaluated, evaluations = _evaluations(lines)
    if evaluations:
        axes.plot(evaluated, evaluations, "D", color=ORANGE, markersize=7, label="evaluation")
    if returns or evaluations:
        axes.legend(loc="best", frameon=False)
    else:
        axes.set_yticks([])
        where = {"ha": "center", "va": "center", "color": GREY, "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no episode has ended yet", **where)
    axes.set_ylabel("episode return")
    _tidy(axes)


def _draw_losses(axes: AnyAxes, lines: list[LogLine]) -> None:
    right = axes.twinx()
    series = (
        (axes, "dreamer_image_mean_squared_error", "image MSE a pixel", GREEN),
        (right, "dreamer_kl_nats", "KL, nats", ORANGE),
    )
    for side, name, label, color in series:
        frames, values = _series(lines, name)
        marker = "o" if len(values) < 3 else ""
        side.plot(frames, values, color=color, linewidth=1.5, marker=marker)
        side.set_ylabel(label, color=color)
        side.tick_params(axis="y", colors=color)
        positive = [value for value in values if value > 0]
        if positive and max(positive) > 20 * min(positive):
            side.set_yscale("log")
    _tidy(axes)
    right.spines["top"].set_visible(False)


def _tidy(axes: AnyAxes) -> None:
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _training_episodes(lines: list[LogLine]) -> Points:
    """Returns the frames and returns of all training episodes, in the order of frames."""
    points = sorted(
        (episode.policy_step * line.action_repeat, episode.episode_return)
        for line in lines
        if line.service != "evaluator"
        for episode in line.episodes
    )
    return [x for x, _ in points], [y for _, y in points]


def _series(lines: list[LogLine], name: str) -> Points:
    """Returns the frames and the finite values of a metric, in the order of frames."""
    points = sorted(
        (float(line.env_frame), line.values[name])
        for line in lines
        if math.isfinite(line.values.get(name, math.nan))
    )
    return [x for x, _ in points], [y for _, y in points]


def _evaluations(lines: list[LogLine]) -> Points:
    """Returns the frames at which evaluated weights were made, and the returns."""
    points = sorted(
        (line.evaluated_frame, value)
        for line in lines
        if math.isfinite(value := line.values.get("dreamer_evaluation_return", math.nan))
    )
    return [x for x, _ in points], [y for _, y in points]


def save_open_loop(path: Path | str, truth: Pixels, model: Pixels, *, context: int) -> None:
    """Draws what happened over what the model predicted, one column a step.

    Up to `context` the model sees each image and reconstructs it; from there on it sees actions
    only and imagines. The third row is (model - truth + 1) / 2: grey where they agree.

    Args:
        path: the picture to write; its suffix names the format.
        truth: [T, 64, 64, C], C 1 or 3; uint8, or floats in [0, 1].
        model: as truth.
        context: frames that the model was shown.

    Raises:
        ValueError: the shapes differ or are no images, or context lies outside 0 to T.
    """
    if truth.shape != model.shape or truth.ndim != 4 or truth.shape[-1] not in (1, 3):
        raise ValueError(
            "truth and model must share one shape [T, height, width, 1 or 3], "
            f"got {truth.shape} and {model.shape}"
        )
    steps = len(truth)
    if not 0 <= context <= steps:
        raise ValueError(f"context={context} must lie between 0 and the {steps} frames given")
    seen, guessed = _unit_floats(truth), _unit_floats(model)
    error: FloatArray = ((guessed - seen + 1) / 2).astype(np.float32)
    rows = [seen, guessed, error]
    bands = math.ceil(steps / MAX_COLUMNS)
    columns = math.ceil(steps / bands)
    scale = max(1, round(TILE_PIXELS / truth.shape[1]))
    figure, grid = _band_axes(bands, columns, truth.shape[1] * scale, truth.shape[2] * scale)
    for band, axes in enumerate(grid):
        first = band * columns
        _draw_band(axes, [row[first : first + columns] for row in rows], scale, columns)
        width = truth.shape[2] * scale + GAP_PIXELS
        height = truth.shape[1] * scale + GAP_PIXELS
        _label_band(axes, range(first, min(first + columns, steps)), context, width, height)
    shown = f"first {context} frames reconstructed" if context else "no frame shown"
    figure.text(
        0.5,
        1 - TITLE_PIXELS / 2 / (figure.get_figheight() * DPI),
        f"Open-loop prediction: {shown}, the rest imagined from actions alone",
        ha="center",
        va="center",
        fontsize=13,
    )
    figure.savefig(path, dpi=DPI)


def _band_axes(bands: int, columns: int, height: int, width: int) -> tuple[Any, list[AnyAxes]]:
    """Returns a figure and axes whose pixels are those of the mosaics, so none is resampled."""
    mosaic_width = columns * (width + GAP_PIXELS) - GAP_PIXELS
    mosaic_height = 3 * (height + GAP_PIXELS) - GAP_PIXELS
    total_width = max(MIN_WIDTH_PIXELS, LEFT_PIXELS + mosaic_width + RIGHT_PIXELS)
    total_height = TITLE_PIXELS + bands * (mosaic_height + BELOW_PIXELS)
    figure: Any = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes: list[AnyAxes] = []
    for band in range(bands):
        bottom = (bands - 1 - band) * (mosaic_height + BELOW_PIXELS) + BELOW_PIXELS
        left, across, up = LEFT_PIXELS, mosaic_width, mosaic_height
        place = left / total_width, bottom / total_height, across / total_width, up / total_height
        axes.append(figure.add_axes(place))
    return figure, axes


def _unit_floats(pixels: Pixels) -> FloatArray:
    """Returns the images as float32 in [0, 1]."""
    scale = 255 if pixels.dtype == np.uint8 else 1
    return np.clip(pixels.astype(np.float32) / np.float32(scale), 0, 1)


def _enlarge(images: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """Repeats each pixel of [N, height, width, C] `scale` times both ways."""
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def _draw_band(axes: AnyAxes, rows: list[FloatArray], scale: int, columns: int) -> None:
    """Draws rows of up to `columns` images each as one white-gapped mosaic."""
    height, width = (size * scale for size in rows[0].shape[1:3])
    down, right = height + GAP_PIXELS, width + GAP_PIXELS
    mosaic = np.ones((3 * down - GAP_PIXELS, columns * right - GAP_PIXELS, 3), np.float32)
    for y, images in enumerate(rows):
        for x, enlarged in enumerate(_enlarge(images, scale)):
            mosaic[y * down : y * down + height, x * right : x * right + width] = enlarged
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")


def _label_band(axes: AnyAxes, steps: range, context: int, width: int, height: int) -> None:
    """Names rows and steps, and marks the place where the model sees its last image."""
    middle = (height - GAP_PIXELS) / 2
    names = ["truth", "model", "error"]
    axes.set_yticks([middle + row * height for row in range(3)], names, fontsize=12)
    middle = (width - GAP_PIXELS) / 2
    axes.set_xticks([middle + column * width for column in range(len(steps))])
    axes.set_xticklabels([str(step) for step in steps])
    for tick, step in zip(axes.get_xticklabels(), steps, strict=True):
        tick.set_color(BLUE if step < context else ORANGE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if steps.start < context < steps.stop:
        boundary = (context - steps.start) * width - GAP_PIXELS / 2 - 0.5
        axes.axvline(boundary, color=ORANGE, linewidth=GAP_PIXELS * 72 / DPI)


def save_video(path: Path | str, frames: UInt8Array, fps: float) -> None:
    """Writes frames as a video, four times enlarged.

    Args:
        path: ends in .gif or .mp4.
        frames: [T, height, width, C], C 1 or 3, at least one frame.
        fps: frames per second; a .gif rounds the time of a frame to 10 ms.

    Raises:
        ValueError: the suffix is another one, or the frames are no uint8 images.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(
            f"a video is written as {' or '.join(VIDEO_SUFFIXES)}, got {path.name!r}; "
            "name a file with one of these suffixes"
        )
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3):
        raise ValueError(
            f"frames must be uint8 [T, height, width, 1 or 3], got {frames.dtype} {frames.shape}"
        )
    if not len(frames) or fps <= 0:
        raise ValueError(f"a video needs a frame and a speed, got {len(frames)} at {fps} fps")
    rgb = np.broadcast_to(_enlarge(frames, VIDEO_SCALE), _rgb_shape(frames))
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    write(path, rgb, fps)


def _rgb_shape(frames: UInt8Array) -> tuple[int, int, int, int]:
    steps, height, width, _ = frames.shape
    return steps, height * VIDEO_SCALE, width * VIDEO_SCALE, 3


def _write_gif(path: Path, rgb: UInt8Array, fps: float) -> None:
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in rgb]
    frame_ms = max(10, round(100 / fps) * 10)
    images[0].save(path, save_all=True, append_images=images[1:], duration=frame_ms, loop=0)


def _write_mp4(path: Path, rgb: UInt8Array, fps: float) -> None:
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, fps, (rgb.shape[2], rgb.shape[1]))
    if not writer.isOpened():
        raise OSError(f"{path} cannot be written; check that its directory exists and is writable")
    try:
        for frame in rgb:
            bgr: UInt8Array = np.ascontiguousarray(frame[..., ::-1])
            writer.write(bgr)
    finally:
        writer.release()
