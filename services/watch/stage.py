"""What all tabs of `dreamer watch` see at once, and the process that plays it while any looks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager

from dreamer_core.errors import BUG_EXIT, BadInput, Failed
from services.watch.last_episode import LastEpisode
from services.watch.orders import Choice, Order, PlayerOptions

_MESSAGE_BYTES = 16_000_000
"""Longest message of the player; 64-pixel tiles and one screen are far below."""

_END_S = 1.0
"""Longest wait for the player to end once its orders do."""


class PlayerEnded(Failed):
    """The process that plays has ended by itself; the message says why."""


class Stage:
    """The newest message of the player, and its orders.

    Older messages are gone, so that nobody can fall behind.

    Args:
        choice: how it is played until somebody chooses.
    """

    def __init__(self, choice: Choice = Choice()) -> None:  # noqa: B008 (it is frozen)
        self._number = 0
        self._newest = b""
        self._changed = asyncio.Condition()
        self._num_looking = 0
        self._choice = choice
        self._has_new_order = asyncio.Event()
        self.last_episode = LastEpisode()
        """The last one that was played to its end, for keeping."""

    async def show(self, message: bytes) -> None:
        """Replaces the newest message."""
        async with self._changed:
            self._number, self._newest = self._number + 1, message
            self._changed.notify_all()

    async def after(self, number: int) -> tuple[int, bytes]:
        """Returns the newest message and its number once that is above the one given."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._number > number)
            return self._number, self._newest

    @contextmanager
    def looking(self) -> Generator[None]:
        """Counts one more looker while the block runs."""
        self._num_looking += 1
        self._has_new_order.set()
        try:
            yield
        finally:
            self._num_looking -= 1
            self._has_new_order.set()

    @property
    def choice(self) -> Choice:
        """How it is played."""
        return self._choice

    def choose(self, choice: Choice) -> None:
        """Has it played in another way, for all who look."""
        self._choice = choice
        self._has_new_order.set()

    @property
    def order(self) -> Order:
        """What the player is to do."""
        return Order(is_looked_at=self._num_looking > 0, choice=self._choice)

    async def order_after(self, order: Order) -> Order:
        """Returns the order once it is another one."""
        while self.order == order:
            self._has_new_order.clear()
            await self._has_new_order.wait()
        return self.order


async def play(options: PlayerOptions, stage: Stage) -> None:
    """Shows the player's messages, and lets it play while somebody looks; until cancelled.

    Raises:
        PlayerEnded: it failed or was killed.
        BadInput: the run or its environment cannot be used.
        RuntimeError: it met a bug of ours.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "services.watch.player", json.dumps(dataclasses.asdict(options))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MESSAGE_BYTES,
        start_new_session=True,  # Ctrl-C is for this process alone
    )
    assert process.stdin is not None and process.stdout is not None
    ordering = asyncio.create_task(_give_orders(process.stdin, stage))
    try:
        message = b""
        while (line := await process.stdout.readline()).endswith(b"\n"):  # not torn by a kill
            message = line.rstrip(b"\n")
            stage.last_episode.take(message)
            await stage.show(message)
        raise _ended(message, await process.wait())
    finally:
        ordering.cancel()
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Lets the player end by itself for a moment, then kills what is left of its session."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its environment may have started others
    await process.wait()


async def _give_orders(pipe: asyncio.StreamWriter, stage: Stage) -> None:
    """Tells the player what to do whenever that changes."""
    order = Order()
    with contextlib.suppress(ConnectionError):  # it has ended, which `play` finds out
        while True:
            order = await stage.order_after(order)
            pipe.write(order.encode())
            await pipe.drain()


def _ended(message: bytes, exit_code: int) -> Exception:
    """Returns why the player ended, by its last message and exit code."""
    last = json.loads(message) if message else {}
    if last.get("kind") == "failed":
        kind = BadInput if last["is_bad_input"] else PlayerEnded
        return kind(last["reason"])
    if exit_code == BUG_EXIT:
        return RuntimeError("The process that plays met a bug; its trace is above")
    return PlayerEnded(f"The process that plays ended with exit code {exit_code}")
