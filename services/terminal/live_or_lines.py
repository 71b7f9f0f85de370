"""A live table on a terminal, a line now and then elsewhere, and never silence for long."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live

from services.logs import WithoutPrefixes, line_of

REFRESH_HZ = 4.0
LINE_INTERVAL_S = 9.0  # and a second until that is noticed: ten at most
_TICK_S = 1.0


class LiveOrLines(ABC):
    """What shows the progress of a long command: `with ... as display`, then `_show` what is new.

    On a terminal the table is redrawn four times a second by a thread of `rich`; elsewhere (CI,
    a pipe, a dumb terminal) one line is written every `line_interval_s` and one at the end. While
    there is no table, nothing is silent for longer: a thread says what is being waited for.
    Words for the log belong on `console`, which puts them above the table, and to `heard`. So does
    what goes to stderr, without what Ray puts before lines of other processes. What
    `_render` reads has to be there before this is made.

    Args:
        console: where to draw; by default stdout.
        line_interval_s: seconds between two lines where no table is drawn.
        is_plain: lines on a terminal too.
        clock_s: seconds, running evenly.
    """

    def __init__(
        self,
        *,
        console: Console | None = None,
        line_interval_s: float = LINE_INTERVAL_S,
        is_plain: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or Console(markup=False)
        self._clock_s, self._line_interval_s = clock_s, line_interval_s
        self._next_line_s = self._heard_s = self._written_s = clock_s()
        self._has_news = False
        self._under_way = "Starting"
        self._is_over = threading.Event()
        self._stderr = ExitStack()
        self._ticks = threading.Thread(target=self._tick_on, daemon=True)
        is_terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live = (
            Live(
                get_renderable=self._render,
                console=self.console,
                refresh_per_second=REFRESH_HZ,
                redirect_stdout=False,
                redirect_stderr=False,  # `__enter__` does
            )
            if is_terminal and not is_plain
            else None
        )

    @abstractmethod
    def _render(self) -> RenderableType:
        """Returns the table."""

    @abstractmethod
    def _line(self) -> str:
        """Returns the line of where it stands."""

    @property
    def is_live(self) -> bool:
        """Whether a table is drawn, and no lines are written."""
        return self._live is not None

    def heard(self, words: str) -> None:
        """Notes that a line was written otherwise, and says what is under way since then."""
        self._under_way = words
        self._heard_s = self._written_s = self._clock_s()

    def tick(self) -> None:
        """Writes a line if none was for `line_interval_s` and no table is drawn."""
        now_s = self._clock_s()
        is_drawn = self._live is not None and self._live.is_started
        if is_drawn or now_s - self._written_s < self._line_interval_s:
            return
        if self._has_news:
            self._write_line()
            return
        self._written_s = now_s
        words = f"{self._under_way}: {now_s - self._heard_s:.0f} s so far"
        self._print(words if self.is_live else line_of("dreamer", "INFO", words, time.time()))

    def _show(self) -> None:
        """There is something new to show."""
        self._has_news = True
        if self._live is not None:
            self._live.start()  # not before there is something to show; again does nothing
        elif self._clock_s() >= self._next_line_s:
            self._write_line()

    def _write_line(self) -> None:
        self._written_s = self._clock_s()
        self._next_line_s = self._written_s + self._line_interval_s
        self._print(self._line())

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _tick_on(self) -> None:
        while not self._is_over.wait(_TICK_S):
            self.tick()

    def __enter__(self) -> Self:
        above: Any = FileProxy(self.console, sys.stderr) if self.is_live else sys.stderr
        plain: Any = WithoutPrefixes(above)
        self._stderr.enter_context(redirect_stderr(plain))
        self._ticks.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._ticks.join()
        if self._live is not None:
            self._live.stop()
        elif self._has_news:
            self._write_line()
        self._stderr.close()
