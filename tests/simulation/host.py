"""A host on a clock of its own: services in this process, whose calls take simulated time.

A service is a plain object. Its calls wait in a queue and are done in order, one at a time, each
for some simulated seconds, and have their effect at the end of them. A service may be killed at any
moment, hang, or be cut off together with what it holds, which is what an adversary does to it.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque

from services.runtime.calls import READY, Lost, NotStarted, Raised, Silent

DETECTION_S = 15.0
"""After so long a service that is cut off counts as lost, with what it holds."""


class PowerCut(BaseException):
    """Everything ends, the supervisor included; only the run directory stays."""


class Hangs(Exception):
    """Raised in place of a call's effect by whoever froze its service."""


class Stuck(AssertionError):
    """Nothing happens any more, and somebody waits."""


class Ref:
    """What a call will give."""

    __slots__ = ("_waiters", "error", "is_done", "process", "value")

    def __init__(self, process):
        self.process = process
        self.is_done = False
        self.value = self.error = None
        self._waiters = []

    def fill(self, value=None, error=None):
        if self.is_done:
            return
        self.is_done, self.value, self.error = True, value, error
        for waiter in self._waiters:
            waiter()

    def then(self, do):
        """Does something once the result or the failure is there."""
        self._waiters.append(do)

    def lose(self):
        """What the call gave is gone, with the node that held it."""
        self.is_done, self.value = True, None
        self.error = Lost("what it was handed was lost with its node")


class Task:
    """A call in a service's queue."""

    __slots__ = ("arguments", "refs", "verb")

    def __init__(self, verb, arguments, refs):
        self.verb, self.arguments, self.refs = verb, arguments, refs


class Process:
    """One life of a service."""

    def __init__(self, name, make):
        self.name = name
        self.make = make
        self.service = None
        self.queue = deque()
        self.is_alive = True
        self.is_busy = False
        self.frozen_until_s = 0.0
        self.cut_until_s = 0.0
        self.drained_since_s, self.drained_until_s, self.has_crashed = 0.0, 0.0, False
        self.start_error = None
        self.made = []  # references to large results, which stay on its node

    def __repr__(self):
        return self.name


class SimulatedHost:
    """Where simulated services run; a Host.

    Args:
        makers: name of a service, without its number, to what makes it from arguments of `start`.
        seconds: gives how long a call takes, from service and verb.
        max_s: no run takes longer.
    """

    def __init__(self, makers, seconds, max_s=5_000.0):
        self._makers = makers
        self._seconds = seconds
        self._max_s = max_s
        self._clock_s = 0.0
        self._events = []
        self._number = 0
        self._processes = {}
        self.on_event = _nothing  # the adversary's moment, before each event
        self.on_start = _nothing  # (service, arguments)
        self.on_silence = _nothing  # (process that is ended because nothing came of it)
        self.on_end = _nothing  # (process that the supervisor ends)
        self.has_room = lambda _services: True  # of other nodes for what is on drained ones
        self.on_drained = _nothing  # (process whose node ends now, and it never left)
        self.on_call = _nothing  # (service, verb, arguments)
        self.on_effect = _nothing  # (process, task); may raise in place of the service
        self.on_done = _nothing  # (process, task, value)
        self.on_death = _nothing  # (process, the task that it was doing or None)
        self.tape = []
        self.is_loop_blocked = False
        """The supervisor waits for one answer and looks after nothing else, as in a recovery."""
        self.loop_since_s = 0.0
        """Since when it does not."""
        self.most_in_flight = Counter()
        self._in_flight = Counter()

    # Host

    def now_s(self):
        return self._clock_s

    def start(self, service, *arguments):
        maker = self._makers[service.partition("-")[0]]
        process = Process(service, lambda: maker(*arguments))
        self._processes[service] = process
        self.on_start(service, arguments)
        self.note(f"start {service}" + (f" {arguments[0]}" if service == "collector" else ""))
        self._count(service, "__init__")
        self._enqueue(process, Task("__init__", (), []))

    def call(self, service, verb, *arguments, num_results=1):
        process = self._processes[service]
        refs = [Ref(process) for _ in range(num_results)]
        if verb != READY:
            self.on_call(service, verb, arguments)
        if process.is_alive:
            self._count(service, verb)
            self._enqueue(process, Task(verb, arguments, refs))
        else:
            _fail(refs, process.start_error or Lost(f"the {service} is dead"))
        return refs[0] if num_results == 1 else refs

    def get(self, reference, timeout_s):
        if not reference.is_done:
            self.is_loop_blocked = True
            self._run(lambda: reference.is_done, timeout_s)
            self.is_loop_blocked, self.loop_since_s = False, self._clock_s
        if not reference.is_done:
            raise Silent(f"no answer of the {reference.process} in {timeout_s:g} s")
        if reference.error is not None:
            raise reference.error
        return reference.value

    def wait(self, references, timeout_s):
        self._run(lambda: any(reference.is_done for reference in references), timeout_s)
        return next((reference for reference in references if reference.is_done), None)

    def has(self, service):
        return service in self._processes

    def drained(self):
        now_s = self._clock_s
        return {p.name for p in self._processes.values() if p.drained_until_s > now_s}

    def kill(self, service):
        if service in self._processes:
            self.on_silence(self._processes[service])
        self.end([service])

    def end(self, services):
        for service in services:
            process = self._processes.pop(service, None)
            if process is not None:
                self.note(f"end {service}")
                self.on_end(process)
                self.die(process)

    # What an adversary does

    def process(self, service):
        """The present life of a service, or None."""
        process = self._processes.get(service)
        return process if process is not None and process.is_alive else None

    def processes(self):
        """The present life of every service, dead or not."""
        return list(self._processes.values())

    def die(self, process, reason="it was killed"):
        """Ends a process at once; a call that it was doing may have had its effect or not."""
        if not process.is_alive:
            return
        process.is_alive = False
        tasks = list(process.queue)
        self.on_death(process, tasks[0] if process.is_busy else None)
        process.queue.clear()
        process.service = None
        for task in tasks:
            self._in_flight[process.name, task.verb] -= 1
            _fail(task.refs, Lost(f"the {process} is dead: {reason}"))

    def freeze(self, process, seconds):
        """The process does nothing for so long."""
        self.note(f"freeze {process} {seconds:.0f} s")
        process.frozen_until_s = max(process.frozen_until_s, self._clock_s + seconds)

    def cut(self, process, seconds):
        """Nothing reaches the process or comes from it; it counts as dead when that lasts."""
        self.note(f"cut {process} {seconds:.0f} s")
        process.cut_until_s = max(process.cut_until_s, self._clock_s + seconds)
        if seconds > DETECTION_S:
            self.at(DETECTION_S, lambda: self.lose_node(process))

    def drain(self, process, seconds):
        """The node of the process ends after so long, and starts nothing more until then."""
        self.note(f"drain the node of the {process} for {seconds:.0f} s")
        process.drained_since_s, process.drained_until_s = self._clock_s, self._clock_s + seconds
        self.at(seconds, lambda: self._end_node(process))

    def _end_node(self, process):
        if process.is_alive:
            self.on_drained(process)
        self.lose_node(process)

    def lose_node(self, process):
        """The node of a process is gone, and with it what nobody has fetched from there."""
        self.die(process, "its node does not answer")
        for ref in process.made:
            ref.lose()

    def at(self, delay_s, do):
        """Does something later."""
        self._number += 1
        heapq.heappush(self._events, (self._clock_s + delay_s, self._number, do))

    def note(self, words):
        """Writes a line of the tape."""
        self.tape.append(f"{self._clock_s:8.2f}  {words}")

    # The clock

    def _run(self, is_enough, timeout_s):
        """Lets events happen until it is enough, or for so long."""
        until_s = self._clock_s + timeout_s
        while not is_enough():
            if self._clock_s > self._max_s:
                raise Stuck(f"the run is still under way after {self._clock_s:.0f} s")
            if not self._events or self._events[0][0] > until_s:
                self._clock_s = until_s
                return
            self._clock_s, _, do = heapq.heappop(self._events)
            self.on_event()
            do()

    def _enqueue(self, process, task):
        process.queue.append(task)
        if not process.is_busy and len(process.queue) == 1:
            self._begin(process)

    def _begin(self, process):
        """Begins the first call of a queue, unless what it is handed is not there yet."""
        if not process.is_alive or not process.queue or process.is_busy:
            return
        task = process.queue[0]
        for argument in task.arguments:
            if isinstance(argument, Ref) and not argument.is_done:
                argument.then(lambda: self._begin(process))
                return
        process.is_busy = True
        self.at(self._seconds(process.name, task.verb), lambda: self._end(process, task))

    def _end(self, process, task):
        if not process.is_alive:
            return
        idle_s = max(process.frozen_until_s, process.cut_until_s) - self._clock_s
        if idle_s > 0:
            self.at(idle_s, lambda: self._end(process, task))
            return
        try:
            value, error = self._effect(process, task)
        except Hangs:
            self.at(process.frozen_until_s - self._clock_s, lambda: self._end(process, task))
            return
        if not process.is_alive:  # it ended over it
            return
        process.queue.popleft()
        process.is_busy = False
        self._in_flight[process.name, task.verb] -= 1
        if error is not None:
            _fail(task.refs, error)
        elif len(task.refs) > 1:
            process.made.append(task.refs[0])
            for ref, part in zip(task.refs, value, strict=True):
                ref.fill(part)
        elif task.refs:
            task.refs[0].fill(value)
        self._begin(process)

    def _effect(self, process, task):
        """What the call gives: (value, None) or (None, error)."""
        for argument in task.arguments:
            if isinstance(argument, Ref) and argument.error is not None:
                return None, argument.error
        arguments = [a.value if isinstance(a, Ref) else a for a in task.arguments]
        try:
            self.on_effect(process, task)
            if task.verb == "__init__":
                process.service = process.make()
                return None, None
            if task.verb == READY:
                return True, None
            value = getattr(process.service, task.verb)(*arguments)
            self.on_done(process, task, value)
        except Hangs:
            raise
        except Exception as error:  # noqa: BLE001 (handed on, as a host does)
            if task.verb == "__init__":
                self._fail_start(process, error)
            raised = Raised(f"{type(error).__name__}: {error}", error)
            raised.__cause__ = error
            return None, raised
        return value, None

    def _fail_start(self, process, error):
        process.is_alive = False
        process.start_error = NotStarted(f"{type(error).__name__}: {error}", error)
        for task in process.queue:
            self._in_flight[process.name, task.verb] -= 1
            _fail(task.refs, process.start_error)
        process.queue.clear()

    def _count(self, service, verb):
        key = (service, verb)
        self._in_flight[key] += 1
        self.most_in_flight[key] = max(self.most_in_flight[key], self._in_flight[key])


def _nothing(*_):
    pass


def _fail(refs, error):
    for ref in refs:
        ref.fill(error=error)
