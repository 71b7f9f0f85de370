"""Calls of services that are under way: who does what, since when, and what came of it.

A host is where services run: Ray's actors (actors.py), or a simulation with a clock of its own
(tests/simulation). Nothing here or above it knows which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class CallFailed(Exception):
    """A call gave no result; the message is the reason in one line."""


class Lost(CallFailed):
    """The service is gone, or what it was handed; a replacement mends that."""


class Silent(CallFailed):
    """There was no answer in time."""


class ClusterFailed(CallFailed):
    """What connects the services failed in another way."""


class Raised(CallFailed):
    """The service raised an exception.

    Args:
        reason: in one line.
        cause: the exception.
    """

    def __init__(self, reason: str, cause: BaseException) -> None:
        super().__init__(reason)
        self.cause = cause


class NotStarted(Raised):
    """The service ended by an exception in its constructor."""


READY = "__ray_ready__"
"""Verb that every service answers once all calls before it are done."""


class Host(Protocol):
    """Where services run."""

    def now_s(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def start(self, service: str, *arguments: Any) -> None:
        """Starts a service, whether or not there was one of that name before.

        Args:
            service: replay (a RewindTarget or nothing), learner, collector (its incarnation),
                exchange, or evaluator-N (N).
            arguments: as in brackets.
        """
        ...

    def call(self, service: str, verb: str, *arguments: Any, num_results: int = 1) -> Any:
        """Calls a service and returns a reference to the result, or as many as wanted.

        A reference among the arguments is handed over as its value, once that exists. A service
        takes its calls in order, one at a time.
        """
        ...

    def get(self, reference: Any, timeout_s: float) -> Any:
        """Waits for a result.

        Raises:
            CallFailed: there is none; the subclass tells why.
        """
        ...

    def wait(self, references: Sequence[Any], timeout_s: float) -> Any | None:
        """Returns one of the references of which the result or failure is there; None in vain."""
        ...

    def has(self, service: str) -> bool:
        """Whether the service was started and not ended by `kill`; it may have died."""
        ...

    def drained(self) -> set[str]:
        """Services whose node is about to end; what is started from now on starts elsewhere."""
        ...

    def has_room(self, services: Sequence[str]) -> bool:
        """Whether nodes that are not about to end could take these as well as what they have."""
        ...

    def kill(self, service: str) -> None:
        """Ends a service; one that is not there is no matter."""
        ...

    def end(self, services: Collection[str]) -> None:
        """Ends services that are alive, each once it has closed its environment or had time to."""
        ...


@dataclass(slots=True)
class Call:
    """A call under way."""

    service: str
    """Who does it."""
    verb: str
    """What is done."""
    reference: Any
    """To its result."""
    on_done: Callable[[Any], None]
    """Takes the result."""
    waited_s: float = 0.0
    """How long the result was the next one wanted of its kind; set once it is there."""


class Calls:
    """Calls in the order in which they were made, in a queue for each service and verb.

    The results of a queue are taken in its order.

    Args:
        host: where they are made.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._queues: dict[tuple[str, str], deque[tuple[int, Call]]] = {}
        self._since_s: dict[tuple[str, str], float] = {}
        self._number = 0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, service: str, verb: str, reference: Any, on_done: Callable[[Any], None]) -> None:
        """Notes a call."""
        queue = self._queues.setdefault((service, verb), deque())
        if not queue:
            self._since_s[service, verb] = self._host.now_s()
        self._number += 1
        queue.append((self._number, Call(service, verb, reference, on_done)))

    def in_flight(self, service: str, verb: str) -> int:
        """How many calls of a kind are under way."""
        return len(self._queues.get((service, verb), ()))

    def services(self) -> set[str]:
        """Services of which a call is under way."""
        return {service for (service, _), queue in self._queues.items() if queue}

    def silent(self) -> list[tuple[Call, float]]:
        """The next call of each queue, and for how long nothing of that queue has been done."""
        now_s = self._host.now_s()
        heads = [(kind, queue[0][1]) for kind, queue in self._queues.items() if queue]
        return [(call, now_s - self._since_s[kind]) for kind, call in heads]

    def heard(self, service: str) -> None:
        """Counts the silence of a service from now on."""
        now_s = self._host.now_s()
        self._since_s |= {kind: now_s for kind in self._since_s if kind[0] == service}

    def wait(self, timeout_s: float) -> Call | None:
        """Takes out a call that is done or failed, after at most `timeout_s`."""
        heads = {queue[0][1].reference: kind for kind, queue in self._queues.items() if queue}
        ready = self._host.wait(list(heads), timeout_s)
        return None if ready is None else self._pop(heads[ready])

    def pop_oldest(self, services: Collection[str]) -> Call | None:
        """Takes out the oldest call of these services, done or not; None if there is none."""
        heads = [
            (queue[0][0], kind)
            for kind, queue in self._queues.items()
            if queue and kind[0] in services
        ]
        return self._pop(min(heads)[1]) if heads else None

    def drop(self, services: Collection[str]) -> None:
        """Forgets the calls of these services."""
        for (service, _), queue in self._queues.items():
            if service in services:
                queue.clear()

    def _pop(self, kind: tuple[str, str]) -> Call:
        _, call = self._queues[kind].popleft()
        now_s = self._host.now_s()
        call.waited_s, self._since_s[kind] = now_s - self._since_s[kind], now_s
        return call
