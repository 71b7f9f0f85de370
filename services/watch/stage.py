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
from services.watch.orders import PAUSE, PLAY, PlayerOptions

_MESSAGE_BYTES = 16_000_000
"""Longest message of the player; 64-pixel tiles and one screen are far below."""

_END_S = 1.0
"""Longest wait for the player to end once its orders do."""


class PlayerEnded(Failed):
    """The process that plays has ended by itself; the message says why."""


class Stage:
    """The newest message of the player; older ones are gone, so that nobody can fall behind."""

    def __init__(self) -> None:
        self._number = 0
        self._newest = b""
        self._changed = asyncio.Condition()
        self._num_looking = 0
        self._has_looker = asyncio.Event()
        self._has_none = asyncio.Event()
        self._has_none.set()

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
        self._count(+1)
        try:
            yield
        finally:
            self._count(-1)

    @property
    def is_looked_at(self) -> bool:
        """Whether anybody looks."""
        return self._num_looking > 0

    async def until_looked_at(self, *, is_looked_at: bool) -> None:
        """Waits until somebody looks, or until nobody does."""
        await (self._has_looker if is_looked_at else self._has_none).wait()

    def _count(self, change: int) -> None:
        self._num_looking += change
        now, before = self._has_looker, self._has_none
        if not self._num_looking:
            now, before = before, now
        now.set()
        before.clear()


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
    """Orders the player to play while somebody looks."""
    with contextlib.suppress(ConnectionError):  # it has ended, which `play` finds out
        while True:
            await stage.until_looked_at(is_looked_at=True)
            pipe.write(PLAY)
            await pipe.drain()
            await stage.until_looked_at(is_looked_at=False)
            pipe.write(PAUSE)
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
