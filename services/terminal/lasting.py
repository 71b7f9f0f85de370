"""Output that outlives its terminal: a run goes on, or ends well, with nobody left to read."""

from __future__ import annotations

import os
from typing import Any, TextIO


class LastingStream:
    """A text stream of which the rest goes nowhere once it cannot be written to.

    Its file descriptor is taken to /dev/null then, so that others who write there go on too.

    Args:
        stream: such as sys.stdout.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, if anybody is there."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is held back, if anybody is there."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, act: Any) -> None:
        try:
            act()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except ValueError:
            if not self._stream.closed:  # by the user's code; any other is a bug
                raise
            self._stream = open(os.devnull, "w")  # noqa: PTH123, SIM115 (to the very end)
