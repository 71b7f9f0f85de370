"""Images as a video, .gif or .mp4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dreamer_core.types import UInt8Array

VIDEO_SCALE = 4
VIDEO_SUFFIXES = (".gif", ".mp4")
_FRAMES_PER_SECOND = 60  # of the Atari console


def save_episode(path: Path, frames: Sequence[UInt8Array], action_repeat: int) -> None:
    """Writes the images of an episode as a video at the speed of the game."""
    save_video(path, np.stack(frames), _FRAMES_PER_SECOND / action_repeat)


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
    large = frames.repeat(VIDEO_SCALE, axis=1).repeat(VIDEO_SCALE, axis=2)
    rgb = np.broadcast_to(large, _rgb_shape(frames))
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
