"""What to show of an observation that has no image: its vector as bars."""

from __future__ import annotations

import numpy as np

from dreamer_core.types import FloatArray, UInt8Array

_SIDE = 64
_MIDDLE = 64  # gray level of the line of zero


def picture_of(image: UInt8Array, vector: FloatArray | None) -> UInt8Array:
    """Returns the image [..., 64, 64, C], or without channels the vector [..., V] as bars."""
    return image if image.shape[-1] or vector is None else bars(vector)


def bars(vector: FloatArray) -> UInt8Array:
    """Draws each number x of vectors [..., V] as a bar of height x / (1 + |x|) from the middle.

    Returns:
        [..., 64, 64, 1], white on black; of more than 64 numbers some are left out.
    """
    column = np.arange(_SIDE) * vector.shape[-1] // _SIDE
    height = (vector / (1 + np.abs(vector)))[..., None, column]  # [..., 1, 64]
    level = ((_SIDE - 1) / 2 - np.arange(_SIDE)[:, None]) / (_SIDE / 2)  # [64, 1]
    is_bar = (level * height > 0) & (np.abs(level) <= np.abs(height))
    zero = np.where(np.abs(level) < 1 / _SIDE * 2, _MIDDLE, 0)
    return np.where(is_bar, 255, zero).astype(np.uint8)[..., None]
