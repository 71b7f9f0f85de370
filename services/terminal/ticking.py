"""A thread that looks at something again and again while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

_INTERVAL_S = 1.0


@contextmanager
def ticking(tick: Callable[[], None], interval_s: float = _INTERVAL_S) -> Generator[None]:
    """Calls `tick` every `interval_s` in a thread of its own until the block ends."""
    is_over = threading.Event()

    def follow() -> None:
        while not is_over.wait(interval_s):
            tick()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
