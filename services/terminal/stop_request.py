"""How Ctrl-C, SIGTERM and a terminal that goes away reach what runs for long."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

INTERRUPTED_EXIT = 130
"""Exit code after Ctrl-C."""
TERMINATED_EXIT = 143
"""Exit code after SIGTERM, and of a command whose Ray cluster was about to end."""
_ECHO_S = 0.1  # a signal that comes again within it is the same
_SHOW_CURSOR = b"\x1b[?25h"


class StopRequest:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a question that the training loop asks.

    The first signal asks for a clean stop; a second Ctrl-C ends the process at once, unless it
    comes faster than fingers are: `timeout` signals its command and then the whole group. Both are
    noticed in a thread of their own, since the main thread may be inside a call that lets no Python
    run for long.

    Args:
        say: tells the user that the stop has begun.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.signal: signal.Signals | None = None
        self._taken_s = 0.0
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        threading.Thread(target=self._follow, args=(reading,), daemon=True).start()
        os.register_at_fork(after_in_child=self._leave_to_itself)
        self.listen()

    def listen(self) -> None:
        """Takes the signals over; needed again after Ray, which takes them when it starts."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            is_nohup = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
            if not is_nohup:
                signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + signal, so that whoever watches sees that the work is not done; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def _leave_to_itself(self) -> None:
        """A process that an environment forks is no part of the run: SIGTERM ends it alone."""
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.set_wakeup_fd(-1)  # it is the run's, which would stop
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_signal(self, number: int, frame: Any) -> None:
        """Nothing: the thread has it."""

    def _follow(self, reading: int) -> None:
        while numbers := os.read(reading, 64):
            for number in numbers:
                if signal.getsignal(number) == self._on_signal:
                    self._take(signal.Signals(number))

    def _take(self, number: signal.Signals) -> None:
        if self.signal is not None:
            if number == signal.SIGINT and time.monotonic() - self._taken_s > _ECHO_S:
                if sys.stdout.isatty():
                    os.write(sys.stdout.fileno(), _SHOW_CURSOR)
                os._exit(INTERRUPTED_EXIT)
            return
        self.signal, self._taken_s = number, time.monotonic()
        self._say("Stopping: finishing what is under way and writing a checkpoint ...")
