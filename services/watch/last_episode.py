"""The last episode that was played to its end, as a moving picture to keep."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_FRAMES = 1_800
"""Two minutes of Atari; of a longer episode the end is kept."""
_SMALLEST_SIDE = 160  # pixels; smaller screens are enlarged
_GAP = 4  # between game and model
_END_MS = 1_000  # that the last picture stays
_QUALITY = 85


@dataclass(frozen=True, slots=True)
class _Pictures:
    """PNG files in base64."""

    screen: str
    tiles: str


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """One that was played to its end."""

    facts: dict[str, Any]
    """Its number, return, policy steps and weights."""
    pictures: Sequence[_Pictures]

    def as_webp(self, frames_per_second: float) -> bytes:
        """Returns game and reconstruction side by side as an animated WebP; some seconds of work.

        Args:
            frames_per_second: policy steps a second at real speed.
        """
        from PIL import Image  # noqa: PLC0415 (the page is there before it is imported)

        num_frames = len(self.pictures)
        durations_ms = [round(1000 / frames_per_second)] * (num_frames - 1) + [_END_MS]
        frames, size = list[bytes](), (0, 0)
        for pictures, duration_ms in zip(self.pictures, durations_ms, strict=True):
            image = _side_by_side(Image, pictures)
            still = io.BytesIO()
            image.save(still, "webp", quality=_QUALITY, method=0)
            frames.append(_frame(still.getvalue(), image.size, duration_ms))
            size = image.size
        return _film(b"".join(frames), size)


class LastEpisode:
    """Keeps what an episode showed, from its first message to its last."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Frees all pictures."""
        self._open: list[_Pictures] = []
        self._open_at: tuple[int, int] | None = None  # episode and t of its newest picture
        self.whole: PlayedEpisode | None = None
        """The last one that was played to its end; None before the first."""

    def take(self, message: bytes) -> None:
        """Takes the player's next message; one that starts again has the same episodes anew."""
        frame = json.loads(message)
        if frame.get("kind") != "frame":
            return
        episode, t = frame["episode"], frame["t"]
        if self._open_at is None or episode != self._open_at[0] or t <= self._open_at[1]:
            self._open = []
        self._open_at = episode, t
        self._open.append(_Pictures(frame["screen"], frame["tiles"]))
        del self._open[:-MOST_FRAMES]
        if frame["is_last"]:
            facts = {
                "episode": episode + 1,
                "episode_return": frame["episode_return"],
                "policy_steps": t,
                "gradient_step": frame["gradient_step"],
                "mode": frame["mode"],
            }
            self.whole, self._open, self._open_at = PlayedEpisode(facts, self._open), [], None


def _side_by_side(pil: Any, pictures: _Pictures) -> Any:
    """Returns the screen and, as large, what the model makes of it."""
    screen, tiles = (
        pil.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
        for png in (pictures.screen, pictures.tiles)
    )
    factor = -(-_SMALLEST_SIDE // min(screen.size))
    width, height = screen.width * factor, screen.height * factor
    side = tiles.height  # a tile is square; the second one is the reconstruction
    image = pil.new("RGB", (2 * width + _GAP, height), "white")
    for left, part in ((0, screen), (width + _GAP, tiles.crop((side, 0, 2 * side, side)))):
        image.paste(part.resize((width, height), pil.Resampling.NEAREST), (left, 0))
    return image


# The container of an animated WebP. Pillow writes it from images that are all in memory at once,
# which would be a gigabyte: https://developers.google.com/speed/webp/docs/riff_container


def _film(frames: bytes, size: tuple[int, int]) -> bytes:
    """Returns the file of such frames, which begins again at its end."""
    has_animation, ground = bytes([2, 0, 0, 0]), b"\xff\xff\xff\xff"
    head = _chunk(b"VP8X", has_animation + _three_bytes(size[0] - 1, size[1] - 1))
    body = b"WEBP" + head + _chunk(b"ANIM", ground + bytes(2)) + frames
    return _chunk(b"RIFF", body)


def _frame(still: bytes, size: tuple[int, int], duration_ms: int) -> bytes:
    """Returns a WebP file as a frame that covers the whole picture."""
    place = _three_bytes(0, 0, size[0] - 1, size[1] - 1, duration_ms)
    is_opaque = bytes([2])
    return _chunk(b"ANMF", place + is_opaque + still[len(b"RIFF....WEBP") :])


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)


def _three_bytes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(3, "little") for number in numbers)
