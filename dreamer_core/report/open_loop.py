"""Open-loop predictions of the world model as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from dreamer_core.report.figure import new_figure
from dreamer_core.types import FloatArray, UInt8Array

MAX_COLUMNS = 16
TILE_PIXELS = 128
DPI = 100
GAP_PIXELS, TITLE_PIXELS, LEFT_PIXELS, RIGHT_PIXELS, BELOW_PIXELS = 6, 44, 64, 12, 32
MIN_WIDTH_PIXELS = 720
SEEN_COLOR, IMAGINED_COLOR = "#2a6fbb", "#d9772b"

Pixels: TypeAlias = UInt8Array | FloatArray | npt.NDArray[np.float64]
AnyAxes: TypeAlias = Any  # matplotlib's own annotations leave arguments unknown


def save_open_loop(
    path: Path | str | BinaryIO, truth: Pixels, model: Pixels, *, context: int
) -> None:
    """Draws what happened over what the model predicted, one column a step.

    Up to `context` the model sees each image and reconstructs it; from there on it sees actions
    only and imagines. The third row is (model - truth + 1) / 2: grey where they agree.

    Args:
        path: the picture to write, whose suffix names the format; or an open file for a PNG.
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
    figure = new_figure(total_width / DPI, total_height / DPI, dpi=DPI)
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


def _draw_band(axes: AnyAxes, rows: list[FloatArray], scale: int, columns: int) -> None:
    """Draws rows of up to `columns` images each as one white-gapped mosaic."""
    height, width = (size * scale for size in rows[0].shape[1:3])
    down, right = height + GAP_PIXELS, width + GAP_PIXELS
    mosaic = np.ones((3 * down - GAP_PIXELS, columns * right - GAP_PIXELS, 3), np.float32)
    for y, images in enumerate(rows):
        for x, enlarged in enumerate(images.repeat(scale, axis=1).repeat(scale, axis=2)):
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
        tick.set_color(SEEN_COLOR if step < context else IMAGINED_COLOR)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if steps.start < context < steps.stop:
        boundary = (context - steps.start) * width - GAP_PIXELS / 2 - 0.5
        axes.axvline(boundary, color=IMAGINED_COLOR, linewidth=GAP_PIXELS * 72 / DPI)
