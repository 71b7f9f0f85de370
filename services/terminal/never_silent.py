"""A command that has written nothing for a while says that it goes on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

SILENCE_S = 9.0
"""Longest silence, and a second until it is noticed: ten at most."""
_TICKS = 9  # in a silence


@contextmanager
def never_silent(command: str, *, silence_s: float = SILENCE_S) -> Generator[None]:
    """Writes `COMMAND: 18 s so far` to stderr after each silence on stdout and stderr.

    Args:
        command: that runs in the block.
        silence_s: longest of them.
    """
    began_s = written_s = time.monotonic()

    def note() -> None:
        nonlocal written_s
        written_s = time.monotonic()

    def tick_on(stderr: TextIO) -> None:
        while not is_over.wait(silence_s / _TICKS):
            if time.monotonic() - written_s >= silence_s:
                note()
                with suppress(OSError):  # nobody reads on, which the command itself finds
                    stderr.write(f"{command}: {written_s - began_s:.0f} s so far\n")
                    stderr.flush()

    is_over = threading.Event()
    ticks = threading.Thread(target=tick_on, args=(sys.stderr,), daemon=True)
    noting = (cast(TextIO, _NotingStream(stream, note)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(next(noting)), redirect_stderr(next(noting)):
        ticks.start()
        try:
            yield
        finally:
            is_over.set()
            ticks.join()


class _NotingStream:
    """A text stream that tells of each write."""

    def __init__(self, stream: TextIO, note: Callable[[], None]) -> None:
        self._stream, self._note = stream, note

    def write(self, text: str) -> int:
        self._note()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
