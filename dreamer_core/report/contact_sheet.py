"""One picture of many: what an agent sees in the course of some steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dreamer_core.files import write_whole
from dreamer_core.types import UInt8Array

_SCALE = 2  # each pixel of the agent
_COLUMNS = 8
_CAPTION = 18  # pixels under each tile
_GAP = 6
_MOST_SCREEN = 320  # height of the screen above the tiles, in pixels
_MARGINS = ((_GAP, 0), (_GAP, _GAP), (0, 0))
_INK, _PAPER = 40, 255


def save_contact_sheet(
    path: Path, screen: UInt8Array | None, tiles: Sequence[tuple[str, UInt8Array]]
) -> None:
    """Writes a PNG: what a person would see, and below it what the agent sees.

    Args:
        path: of the file.
        screen: [H, W, 1 or 3]; None for none.
        tiles: caption and image [64, 64, 1 or 3] of each step.

    Raises:
        OSError: it cannot be written.
    """
    drawn = [_captioned(text, _large(image, _SCALE)) for text, image in tiles]
    rows = [drawn[i : i + _COLUMNS] for i in range(0, len(drawn), _COLUMNS)]
    bands = [_beside(row) for row in rows]
    if screen is not None:
        height = screen.shape[0]
        factor = max(1, _MOST_SCREEN // height) if height < _MOST_SCREEN else 1
        text = f"the environment's own picture, {screen.shape[1]} x {height}; below, the agent's"
        full = (_COLUMNS - 1) * (drawn[0].shape[1] + _GAP) + drawn[0].shape[1]
        bands.insert(0, _captioned(text, _widened(_large(screen, factor), full)))
    width = max(band.shape[1] for band in bands)
    framed = [np.pad(_widened(band, width), _MARGINS, constant_values=_PAPER) for band in bands]
    sheet = np.concatenate(framed)
    is_made, content = cv2.imencode(".png", sheet[..., ::-1])
    if not is_made:
        raise OSError(f"{path}: the picture could not be encoded")
    write_whole(path, content.tobytes())


def _large(image: UInt8Array, factor: int) -> UInt8Array:
    colours = image if image.shape[-1] == 3 else image[..., :1].repeat(3, -1)
    return colours.repeat(factor, 0).repeat(factor, 1)


def _captioned(text: str, image: UInt8Array) -> UInt8Array:
    bar: Any = np.full((_CAPTION, image.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(bar, text, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (_INK,) * 3, 1, cv2.LINE_AA)
    return np.concatenate([image, bar])


def _beside(images: Sequence[UInt8Array]) -> UInt8Array:
    gap = np.full((images[0].shape[0], _GAP, 3), _PAPER, np.uint8)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)


def _widened(image: UInt8Array, width: int) -> UInt8Array:
    return np.pad(
        image, ((0, 0), (0, max(0, width - image.shape[1])), (0, 0)), constant_values=_PAPER
    )
