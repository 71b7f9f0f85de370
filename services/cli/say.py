"""How a command says a line."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Writes a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
