"""Images as a video that browsers play: .mp4, .webm or .gif."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dreamer_core.types import UInt8Array

VIDEO_SCALE = 4
VIDEO_SUFFIXES = (".mp4", ".webm", ".gif")
CODECS = {".mp4": (("H.264", "avc1"), ("VP9", "vp09")), ".webm": (("VP9", "VP90"),)}
"""By suffix what browsers play and OpenCV's name of it; the first is taken that it can encode."""
_SILENT = "-8"  # FFmpeg's level: an encoder that is not there is no news

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _SILENT)  # read with the first video


@dataclass(frozen=True, slots=True)
class Video:
    """A video that was written."""

    path: Path
    """As asked for; ends in .gif where no codec of the wanted kind can be encoded here."""
    codec: str
    """H.264, VP9 or GIF."""


def save_episode(path: Path, frames: Sequence[UInt8Array], fps: float) -> Video:
    """Writes the images of an episode; arguments of `save_video`."""
    return save_video(path, np.stack(frames), fps)


def save_video(
    path: Path | str, frames: UInt8Array, fps: float, *, scale: int = VIDEO_SCALE
) -> Video:
    """Writes frames as a video, enlarged.

    Args:
        path: ends in .mp4, .webm or .gif.
        frames: [T, height, width, C], C 1 or 3, at least one frame.
        fps: frames per second; a .gif rounds the time of a frame to 10 ms.
        scale: times that they are enlarged.

    Raises:
        ValueError: the suffix is another one, or the frames are no uint8 images.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(
            f"a video is written as {', '.join(VIDEO_SUFFIXES)}, got {path.name!r}; "
            "name a file with one of these suffixes"
        )
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3):
        raise ValueError(
            f"frames must be uint8 [T, height, width, 1 or 3], got {frames.dtype} {frames.shape}"
        )
    if not len(frames) or fps <= 0:
        raise ValueError(f"a video needs a frame and a speed, got {len(frames)} at {fps} fps")
    large = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    rgb = np.broadcast_to(large, (*large.shape[:-1], 3))
    with tempfile.TemporaryDirectory() as directory:  # OpenCV does not say why it cannot write
        for codec, name in CODECS.get(path.suffix.lower(), ()):
            part = Path(directory, f"{codec}{path.suffix}")
            if _encode(part, rgb, fps, name):
                path.write_bytes(part.read_bytes())
                return Video(path, codec)
    path = path if path.suffix.lower() == ".gif" else path.with_suffix(".gif")
    _write_gif(path, rgb, fps)
    return Video(path, "GIF")


def _write_gif(path: Path, rgb: UInt8Array, fps: float) -> None:
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in rgb]
    frame_ms = max(10, round(100 / fps) * 10)
    images[0].save(path, save_all=True, append_images=images[1:], duration=frame_ms, loop=0)


def _encode(path: Path, rgb: UInt8Array, fps: float, codec: str) -> bool:
    """Writes the video if OpenCV can encode it; False, and nothing of use in the file, if not."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        size = (rgb.shape[2], rgb.shape[1])
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not writer.isOpened():
        return False
    try:
        for frame in rgb:
            bgr: UInt8Array = np.ascontiguousarray(frame[..., ::-1])
            writer.write(bgr)
    finally:
        writer.release()
    written = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
    if written != len(rgb):  # OpenCV itself does not say so
        reason = f"{written:.0f} of {len(rgb)} frames were written: no space left, it seems"
        raise OSError(errno.ENOSPC, reason, str(path))
    return True
