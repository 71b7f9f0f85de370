"""An image as a PNG file."""

from __future__ import annotations

import cv2
import numpy as np

from dreamer_core.types import UInt8Array


def png_of(image: UInt8Array) -> bytes:
    """Returns an image [H, W, 1 or 3] as a PNG."""
    ordered = image[..., ::-1] if image.shape[-1] == 3 else image  # OpenCV takes BGR
    is_written, png = cv2.imencode(".png", np.ascontiguousarray(ordered))
    assert is_written
    return png.tobytes()
