"""Truth, model and error side by side, row by row of a sequence: the frames of an animation."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamer_core.report.open_loop import IMAGINED_COLOR, SEEN_COLOR
from dreamer_core.types import UInt8Array
from dreamer_core.words import plural

FRAMES_PER_SECOND = 8
_PANEL = 256  # pixels that an image is enlarged to, or a little more
_GAP = 12
_FRAME = 4  # around the model's image, in the colour of what it sees
_TITLE, _CAPTION = 28, 44
_PAPER, _INK, _PALE = "#ffffff", "#222222", "#dddddd"
_HELD_FRAMES = FRAMES_PER_SECOND  # that the last one stays


def dream_frames(truth: UInt8Array, model: UInt8Array, *, context: int) -> UInt8Array:
    """Draws what happened, what the model says and the difference, grey where they agree.

    The model's image is framed, and the bar below filled, in blue while the model sees the images
    and in orange once it imagines them.

    Args:
        truth: [T, height, width, 1 or 3].
        model: as truth.
        context: rows that the model saw, 1 to T.

    Returns:
        [T + 8, H, W, 3], H and W even; the last row stays for a second.
    """
    drawn = [_drawn(truth, model, t, context) for t in range(len(truth))]
    return np.stack(drawn + drawn[-1:] * _HELD_FRAMES)


def _drawn(truth: UInt8Array, model: UInt8Array, t: int, context: int) -> UInt8Array:
    error = ((model[t].astype(np.int16) - truth[t] + 255) // 2).astype(np.uint8)
    panels = [_large(image) for image in (truth[t], model[t], error)]
    height, width, _ = panels[0].shape
    size = (3 * width + 4 * _GAP, _TITLE + height + _FRAME + _CAPTION)
    canvas = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), _PAPER)
    draw = ImageDraw.Draw(canvas)
    is_seen = t < context
    color = SEEN_COLOR if is_seen else IMAGINED_COLOR
    name = "model: reconstructed" if is_seen else "model: imagined"
    for i, (title, panel) in enumerate(zip(["truth", name, "error"], panels, strict=True)):
        left = _GAP + i * (width + _GAP)
        ink = color if i == 1 else _INK
        if i == 1:
            corner = (left - _FRAME, _TITLE - _FRAME)
            far = (left + width + _FRAME - 1, _TITLE + height + _FRAME - 1)
            draw.rectangle((*corner, *far), fill=color)
        draw.text((left, _TITLE - _FRAME - 3), title, ink, _font(15), anchor="ls")
        canvas.paste(Image.fromarray(panel), (left, _TITLE))
    colors = [SEEN_COLOR] * context + [IMAGINED_COLOR] * (len(truth) - context)
    colors[t + 1 :] = [_PALE] * (len(truth) - t - 1)
    _draw_bar(draw, colors, size[0] - 2 * _GAP, _TITLE + height + 14)
    ahead = t - context + 1
    words = "image seen" if is_seen else f"{plural(ahead, 'step')} after the last one seen"
    draw.text((_GAP, size[1] - 9), words, color, _font(14), anchor="ls")
    return np.asarray(canvas)


def _draw_bar(draw: ImageDraw.ImageDraw, colors: list[str], width: int, top: int) -> None:
    """Draws a cell for each row of the sequence in its colour."""
    for row, color in enumerate(colors):
        begin, end = (_GAP + width * edge // len(colors) for edge in (row, row + 1))
        draw.rectangle((begin, top, max(begin, end - 2), top + 6), fill=color)


def _large(image: UInt8Array) -> UInt8Array:
    """Returns an image [h, w, 1 or 3] enlarged by a whole number, in colours."""
    factor = max(1, _PANEL // image.shape[1])
    return np.broadcast_to(image, (*image.shape[:2], 3)).repeat(factor, 0).repeat(factor, 1)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
