"""What the page's server tells the process that plays: its options, and when to play.

Apart from player.py so that the server imports no torch: the page is there at once.
"""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer_core.agent.policy import ActionMode

PLAY, PAUSE = b"1", b"0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerOptions:
    """What to play and how."""

    run_dir: str
    """Directory of the run."""
    mode: ActionMode
    """How actions are chosen."""
    policy_steps_per_second: float
    """Speed while somebody looks."""
    seed: int
    """Of environment and samples."""
    gives_way: bool = True
    """Takes only processor time that nobody else wants."""


class Orders:
    """Orders that come through a pipe, and the clock of the game that they stop.

    Args:
        file: descriptor to read from.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._is_playing = False

    def wait(self, due_s: float) -> None:
        """Returns once `time.monotonic()` has reached due_s and the game is not paused.

        Raises:
            EOFError: whoever gave the orders is gone.
        """
        while True:
            left_s = max(0.0, due_s - time.monotonic())
            ready, _, _ = select.select([self._file], [], [], left_s if self._is_playing else None)
            if not ready:
                return
            orders = os.read(self._file, 64)
            if not orders:
                raise EOFError
            self._is_playing = orders.endswith(PLAY)
