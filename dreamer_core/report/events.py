"""TensorBoard's event files, each event written whole or not at all."""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Callable, Mapping
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import (  # pyright: ignore[reportMissingTypeStubs]
    event_pb2,
    summary_pb2,
)
from tensorboard.plugins.hparams import (  # pyright: ignore[reportMissingTypeStubs]
    summary_v2,
)
from tensorboard.plugins.text import (  # pyright: ignore[reportMissingTypeStubs]
    metadata,
)
from tensorboard.summary.writer import (  # pyright: ignore[reportMissingTypeStubs]
    record_writer,
)

from dreamer_core.report.about import About

# tensorboard carries no type information, and its messages are made at import.
_new_event: Callable[..., Any] = vars(event_pb2)["Event"]
_new_session_log: Callable[..., Any] = vars(event_pb2)["SessionLog"]
_new_summary: Callable[..., Any] = vars(summary_pb2)["Summary"]
_new_image: Callable[..., Any] = vars(summary_pb2)["Summary"].Image
_new_record_writer: Callable[..., Any] = vars(record_writer)["RecordWriter"]
_hyper_parameters: Callable[..., Any] = vars(summary_v2)["hparams_pb"]
_text_metadata: Callable[..., Any] = vars(metadata)["create_summary_metadata"]
_RGBA = 4


class EventFile:
    """Events in TensorBoard's format; one file per process life, which TensorBoard joins.

    Each event is written at once and in whole: the thread of tensorboard's own writer ends with a
    traceback when the disk is full, and a kill loses what it holds.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        place = f"{int(time.time()):010d}.{platform.node()}.{os.getpid()}.{time.time_ns()}"
        self._reached: dict[str, int] = {}  # env frame of the newest value of each tag
        self._begun = -1  # what was said up to there stands
        self._file = (directory / f"events.out.tfevents.{place}").open("ab", buffering=0)
        self._append(_new_event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, env_frame: int, wall_time_s: float, scalars: Mapping[str, float]) -> None:
        """Appends the scalars at x = env_frame, of each tag the first one there."""
        summary = _new_summary()
        for tag, value in scalars.items():
            if env_frame != self._reached.get(tag) and env_frame > self._begun:
                summary.value.add(tag=tag, simple_value=value)
                self._reached[tag] = env_frame
        if summary.value:
            self._append(_new_event(wall_time=wall_time_s, step=env_frame, summary=summary))

    def add_pictures(
        self, env_frame: int, wall_time_s: float, pictures: Mapping[str, bytes]
    ) -> None:
        """Appends PNG files by tag at x = env_frame, of each tag the first one there."""
        summary = _new_summary()
        for tag, png in pictures.items():
            if env_frame != self._reached.get(tag) and env_frame > self._begun:
                width, height = struct.unpack(">II", png[16:24])
                image = _new_image(
                    height=height, width=width, colorspace=_RGBA, encoded_image_string=png
                )
                summary.value.add(tag=tag, image=image)
                self._reached[tag] = env_frame
        if summary.value:
            self._append(_new_event(wall_time=wall_time_s, step=env_frame, summary=summary))

    def describe(self, env_frame: int, about: About) -> None:
        """Appends what the run is: its texts at x = env_frame, its settings as hyper-parameters."""
        settings = _hyper_parameters(dict(about.settings))
        for tag, text in about.texts.items():
            tensor = {"dtype": "DT_STRING", "string_val": [text.encode()]}
            settings.value.add(tag=tag, metadata=_text_metadata("", ""), tensor=tensor)
        self._append(_new_event(wall_time=time.time(), step=env_frame, summary=settings))

    def restart(self, env_frame: int) -> None:
        """Has readers forget what any file of the directory says of later frames."""
        start = _new_session_log(status="START")
        self._append(_new_event(wall_time=time.time(), step=env_frame + 1, session_log=start))
        self._reached, self._begun = {}, env_frame or -1

    def _append(self, event: Any) -> None:
        record = BytesIO()
        _new_record_writer(record).write(event.SerializeToString())
        append_whole(self._file, record.getvalue())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def append_whole(file: FileIO, content: bytes) -> None:
    """Writes all of it or, raising OSError, nothing; the file is open for appending."""
    size = os.fstat(file.fileno()).st_size
    written = 0
    try:
        while written < len(content):
            written += file.write(content[written:])
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise
