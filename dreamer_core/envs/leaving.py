"""C code that ends the process with exit(0): nobody shall take that for the end of a run.

C's exit() runs nothing of Python, but the handlers of the C library. One of them, in Python, is put
there, and taken away before the interpreter goes.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Callable
from typing import Any

_KEY = ctypes.c_void_p(id(ctypes))  # names the handler: a pointer that nobody else gives
_kept: list[Any] = []  # the C library knows its address alone


def on_c_exit(say: Callable[[], str | None]) -> None:
    """Ends the process with exit code 1 and some words where C code calls exit().

    Elsewhere than on glibc nothing is done: other C libraries cannot take a handler away again.

    Args:
        say: asked in the thread that exits; None lets the process end as it wants to.
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()):
        return
    libc = ctypes.CDLL(None)
    is_taken_away = False

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def handler(_argument: int | None) -> None:
        words = None if is_taken_away else say()
        if words is not None:
            os.write(2, f"{words}\n".encode())
            os._exit(1)

    def take_away() -> None:
        nonlocal is_taken_away
        is_taken_away = True
        libc["__cxa_finalize"](_KEY)  # calls it a last time

    libc["__cxa_atexit"](handler, None, _KEY)
    _kept.append(handler)
    atexit.register(take_away)
