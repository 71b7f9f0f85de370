"""The command `dreamer`: a module for each command, imported when it is called."""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

_INTERRUPTED_EXIT = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; see dispatch.py.

    Ctrl-C ends the process at once and without a word, also while it imports or ends, until a
    command that has something to finish takes the signal over (services/terminal/stop_request.py).
    """
    signal.signal(signal.SIGINT, _end)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # was closed before: the next file would take its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 (to the very end)
    if not faulthandler.is_enabled():
        faulthandler.enable(all_threads=False)  # a simulator that crashes in C says where
    from services.cli.dispatch import dispatch  # noqa: PLC0415 (with Ctrl-C taken care of)

    try:
        dispatch(arguments)
    except SystemExit as end:
        if threading.active_count() > 1:
            from services.cli.ending import end_despite_threads  # noqa: PLC0415 (seldom needed)

            end_despite_threads(end.code if isinstance(end.code, int) else 0)
        raise


def _end(_number: int, _frame: Any) -> None:
    os._exit(_INTERRUPTED_EXIT)
