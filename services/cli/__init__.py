"""The command `dreamer`: a module for each command, imported when it is called."""

import os
import signal
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
