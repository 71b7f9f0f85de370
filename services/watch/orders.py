"""What the page's server tells the process that plays: its options, when to play, and how.

Apart from player.py so that the server imports no torch: the page is there at once.
"""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from dreamer_core.errors import BadInput

if TYPE_CHECKING:
    from dreamer_core.agent.policy import ActionMode

LEAST_SPEED, MOST_SPEED = 0.01, 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerOptions:
    """What to play, and how fast and with what luck."""

    run_dir: str
    """Directory of the run."""
    real_speed: float
    """Policy steps a second at speed 1, while somebody looks."""
    seed: int
    """Of environment and samples."""
    gives_way: bool = True
    """Takes only processor time that nobody else wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How those who look want it played; one game for all of them."""

    mode: ActionMode = "greedy"
    """How actions are chosen."""
    speed: float = 1.0
    """Times real speed."""
    checkpoint: int | None = None
    """Gradient step of the weights; None for the newest, as the run writes them."""
    is_paused: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("greedy", "sample"):
            raise BadInput(f"mode {self.mode!r}: wanted greedy or sample")
        if type(self.speed) not in (int, float) or not (LEAST_SPEED <= self.speed <= MOST_SPEED):
            between = f"{LEAST_SPEED:g} to {MOST_SPEED:g}"
            raise BadInput(f"speed {self.speed!r}: wanted a number from {between}")
        if self.checkpoint is not None and (
            type(self.checkpoint) is not int or self.checkpoint < 0
        ):
            raise BadInput(f"checkpoint {self.checkpoint!r}: wanted a gradient step or null")
        if type(self.is_paused) is not bool:
            raise BadInput(f"is_paused {self.is_paused!r}: wanted true or false")

    def changed(self, wanted: Any) -> Choice:
        """Returns it with what JSON asks for instead.

        Raises:
            BadInput: that is no object, or a name or a value in it is none of these.
        """
        names = [field.name for field in fields(self)]
        if not isinstance(wanted, dict) or not wanted.keys() <= set(names):
            raise BadInput(f"wanted a JSON object with some of {', '.join(names)}")
        return Choice(**asdict(self) | wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the player is to do."""

    is_looked_at: bool = False
    """Nobody plays for nobody."""
    choice: Choice = Choice()

    @property
    def is_playing(self) -> bool:
        """Whether the game goes on."""
        return self.is_looked_at and not self.choice.is_paused

    def encode(self) -> bytes:
        """Returns it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def decode(line: bytes) -> Order:
        """Returns the order that was encoded."""
        content = json.loads(line)
        return Order(is_looked_at=content["is_looked_at"], choice=Choice(**content["choice"]))


class Orders:
    """Orders that come through a pipe, and the clock of the game that they stop.

    Args:
        file: descriptor to read from.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._unread = b""  # the beginning of a line
        self._order = Order()

    @property
    def choice(self) -> Choice:
        """The newest that was read."""
        return self._order.choice

    def wait(self, due_s: float) -> float:
        """Returns once `time.monotonic()` has reached due_s and the game is not paused.

        Another choice ends the wait at once, since due_s was that of the choice before.

        Returns:
            When the game could have gone on: due_s, or when the order to play or the choice came.

        Raises:
            EOFError: whoever gave the orders is gone.
        """
        while True:
            left_s = max(0.0, due_s - time.monotonic())
            before = self._order
            ready, _, _ = select.select([self._file], [], [], left_s if before.is_playing else None)
            if not ready:
                return due_s
            self._read()
            if self._order.choice != before.choice:
                due_s = min(due_s, time.monotonic())
            if self._order.is_playing and not before.is_playing:
                due_s = max(due_s, time.monotonic())

    def _read(self) -> None:
        content = os.read(self._file, 65_536)
        if not content:
            raise EOFError
        *lines, self._unread = (self._unread + content).split(b"\n")
        if lines:
            self._order = Order.decode(lines[-1])
