"""The end of a command whose environments left threads behind: Python would wait for them."""

from __future__ import annotations

import os
import sys
import threading
import time

from dreamer_core.envs.base import CLOSE_S


def end_despite_threads(code: int, wait_s: float = CLOSE_S) -> None:
    """Ends the process soon after its main thread, whatever threads still run.

    They have `wait_s` to end by themselves; then they are named, and the process ends with its
    exit code. Nothing happens where there are none.

    Args:
        code: exit code of the command.
        wait_s: seconds.
    """
    if _left():
        threading.Thread(target=_watch, args=(code, wait_s), daemon=True).start()


def _watch(code: int, wait_s: float) -> None:
    threading.main_thread().join()
    deadline_s = time.monotonic() + wait_s
    for thread in _left():
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if names := ", ".join(thread.name for thread in _left()):
        sys.stdout.flush()
        sys.stderr.write(
            f"dreamer: all is done, but threads that an environment started still run: {names}. "
            "They were ended; have the environment's close() end them, or start them as daemons\n"
        )
        sys.stderr.flush()
        os._exit(code)


def _left() -> list[threading.Thread]:
    """Threads that Python waits for before it ends."""
    threads = threading.enumerate()
    return [x for x in threads if not x.daemon and x is not threading.main_thread()]
