"""Remote calls under way: who waits for what, since when."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import ray


@dataclass(frozen=True, slots=True)
class Call:
    """A remote call under way."""

    kind: str
    """Which kind of work it is."""
    reference: Any
    """To its result."""
    on_done: Callable[[Any], None]
    """Takes the result."""
    waited_s: float = 0.0
    """How long the result was the next one wanted of its kind; set once it is there."""


class Calls:
    """Calls in the order in which they were made; the results of a kind keep that order."""

    def __init__(self) -> None:
        self._calls: dict[Any, Call] = {}
        self._since_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, kind: str, reference: Any, on_done: Callable[[Any], None]) -> None:
        """Notes a call."""
        if not self.in_flight(kind):
            self._since_s[kind] = time.monotonic()
        self._calls[reference] = Call(kind, reference, on_done)

    def in_flight(self, *kinds: str) -> int:
        """How many calls of these kinds are under way."""
        return sum(call.kind in kinds for call in self._calls.values())

    def kinds(self) -> set[str]:
        """Kinds of which a call is under way."""
        return {call.kind for call in self._calls.values()}

    def silent_s(self, kind: str) -> float:
        """How long nothing of a kind that is under way has been done."""
        return time.monotonic() - self._since_s[kind]

    def wait(self, timeout_s: float) -> Call | None:
        """Takes out a call that is done or failed, after at most `timeout_s`."""
        if not self._calls:
            time.sleep(timeout_s)
            return None
        oldest: dict[str, Any] = {}
        for reference, call in self._calls.items():
            oldest.setdefault(call.kind, reference)
        ready, _ = ray.wait(list(oldest.values()), num_returns=1, timeout=timeout_s)
        return self._pop(ready[0]) if ready else None

    def pop_oldest(self, *, but: Collection[str]) -> Call | None:
        """Takes out the oldest call that is not of these kinds, done or not; None if none is."""
        found = (ref for ref, call in self._calls.items() if call.kind not in but)
        reference = next(found, None)
        return None if reference is None else self._pop(reference)

    def drop(self, *kinds: str) -> None:
        """Forgets the calls of these kinds."""
        self._calls = {ref: call for ref, call in self._calls.items() if call.kind not in kinds}

    def _pop(self, reference: Any) -> Call:
        call, now_s = self._calls.pop(reference), time.monotonic()
        waited_s, self._since_s[call.kind] = now_s - self._since_s[call.kind], now_s
        return Call(call.kind, reference, call.on_done, waited_s)
