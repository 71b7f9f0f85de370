"""Lossless compression of records: zstandard at its fastest level, a record being one frame.

Neighbouring images of an episode are nearly the same, so a record of 64 rows of Atari takes 20 to
150 times less room. To draw rows from it, all of it is decompressed; this takes most of the time of
a draw and goes on without Python's lock, so that the records of a batch are shared among threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import zstandard

_LEVEL = 1
_MAX_SHARE = 0.9
_MAX_THREADS = 4

Item = TypeVar("Item")


class _Codec(threading.local):
    """Of a thread: none may be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_codec = _Codec()


def compress(payload: bytes) -> bytes | None:
    """Returns the payload as a frame; None where that would not save a tenth."""
    frame = _codec.compressor.compress(payload)
    return frame if len(frame) < _MAX_SHARE * len(payload) else None


def decompress(frame: bytes | memoryview, num_bytes: int | None = None) -> bytes:
    """Returns the payload of a frame; `compress` backwards.

    Args:
        frame: nothing is made room for if it says to hold another number of bytes.
        num_bytes: of the payload; None for however many it says.

    Raises:
        ValueError: this is no whole frame, or one of another payload.
    """
    try:
        found = zstandard.frame_content_size(frame)
        if num_bytes not in (None, found):
            raise ValueError(f"wanted a frame of {num_bytes} bytes, found {found}")
        return _codec.decompressor.decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"wanted a zstandard frame, found none ({error})") from error


def share(work: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> None:
    """Hands each of several threads a part of the items, and waits until all are done.

    Args:
        work: is called with a part at a time, in this thread too.
        items: of about equal work.
    """
    num_threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)), max(1, len(items)))
    parts = [items[first::num_threads] for first in range(num_threads)]
    others = [_threads().submit(work, part) for part in parts[1:]]
    work(parts[0])
    for other in others:
        other.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_THREADS - 1, thread_name_prefix="replay")
