"""How Ctrl-C and SIGTERM reach what runs for long."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

INTERRUPTED_EXIT = 130
"""Exit code after Ctrl-C."""


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a question that the training loop asks.

    The first signal asks for a clean stop; a second Ctrl-C ends the process at once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.signal: signal.Signals | None = None
        self.listen()

    def listen(self) -> None:
        """Takes the signals over; needed again after Ray, which takes them when it starts."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + signal, so that whoever watches sees that the work is not done; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self.signal is not None and number == signal.SIGINT:
            os._exit(INTERRUPTED_EXIT)
        self.signal = signal.Signals(number)
        self._say("Stopping: finishing what is under way and writing a checkpoint ...")
