"""The adversary: breaks a simulated run at random moments, the same for the same seed."""

from __future__ import annotations

import errno
import math
from contextlib import suppress

from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.replay.replay import StaleIncarnation
from tests.simulation.host import PowerCut

SERVICES = ("replay", "learner", "collector", "evaluator-0", "exchange")
KINDS = {
    "kill": 6,  # a service, perhaps between the effect of a call and its answer
    "tear": 2,  # kill the replay server in the middle of a write
    "kill two": 1,  # at once
    "freeze": 3,  # a service hangs, for a while or for ever
    "slow down": 1,  # a service takes many times as long, for a while
    "cut": 2,  # collector, learner or evaluator cannot be reached, perhaps until they are lost
    "late insert": 2,  # the network delivers one again, perhaps one that was given up
    "full disk": 2,  # inserts and checkpoints are refused for a while
    "crash": 1,  # the environment fails in the collector
    "stop": 1,  # the user asks for a stop
    "power cut": 1,  # everything ends at once
}
"""What it does, and how often."""
_DRAIN = "drain"
"""Besides, in a part of the runs: the node of collector, learner or replay is about to end."""
_DRAINED = 0.3  # of the runs
_WRITES = ("insert", "flush", "save")
_RETRY_S = 5.0  # after which what a full disk refused is tried again
_MOMENTS = 80  # events in which a run of the usual length is broken


class Adversary:
    """Decides from its random numbers what breaks when, and does it.

    Args:
        random: a random.Random.
        num_faults: how many.
        own: a random.Random for drains, so that the runs that have none do not depend on them.
    """

    def __init__(self, random, num_faults, own=None):
        self._random = random
        moments = sorted(random.randrange(_MOMENTS) for _ in range(num_faults))
        kinds = random.choices(list(KINDS), KINDS.values(), k=num_faults)
        self._own = own
        plan = list(zip(moments, kinds, strict=True))
        if own is not None and own.random() < _DRAINED:
            plan += [(own.randrange(_MOMENTS), _DRAIN) for _ in range(2)]
        self._plan = sorted(plan, key=lambda planned: planned[0], reverse=True)
        self._event = 0
        self._host = None
        self._full_until_s, self._broken_s = -math.inf, 0.0
        self._slow = {}
        self._crashes = False
        self._sent = []
        self.done = []
        """Kinds of faults that took place, in order."""
        self.wants_stop = False

    @property
    def is_over(self):
        """Whether nothing more will happen."""
        return not self._plan

    def quiet_since_s(self):
        """Since when nothing is slow or full; what hangs or is cut off knows that itself."""
        slow_until_s = (until_s for until_s, _ in self._slow.values())
        return max(self._full_until_s + _RETRY_S, self._broken_s, *slow_until_s, 0.0)

    def slow_until_s(self, service):
        """Until when a service is slow; 0 for never."""
        return self._slow.get(service, (0.0, 1.0))[0]

    def take(self, host, *, is_lockstep, is_run_dir_shared):
        """Follows one life of the run."""
        self._host, self._is_shared, self.wants_stop = host, is_run_dir_shared, False
        self._is_lockstep, self._sent = is_lockstep, []
        self._full_until_s, self._broken_s, self._slow = -math.inf, 0.0, {}
        host.on_event, host.on_effect, host.on_death = self._moment, self._effect, self._death

    def saw_call(self, verb, arguments):
        """Remembers what could be delivered once more."""
        if verb == "insert":
            self._sent.append(arguments[0])

    def seconds(self, service, verb):
        """How long a call takes."""
        usual = {"collect": 0.5, "train": 0.2, "evaluate": 3.0, "save": 0.2, "__init__": 0.5}
        until_s, factor = self._slow.get(service, (0.0, 1.0))
        factor = factor if self._host.now_s() < until_s else 1.0
        seconds = usual.get(verb, 0.01) * factor * self._random.uniform(0.5, 1.5)
        if factor > 1.0:
            self._broken_s = max(self._broken_s, self._host.now_s() + seconds)
        return seconds

    def _moment(self):
        self._event += 1
        while self._plan and self._plan[-1][0] <= self._event:
            _, kind = self._plan.pop()
            self.done.append(kind)
            self._broken_s = max(self._broken_s, self._host.now_s())
            getattr(self, f"_{kind.replace(' ', '_')}")()

    def _pick(self, names=SERVICES):
        there = [p for name in names if (p := self._host.process(name)) is not None]
        return self._random.choice(there) if there else None

    def _kill(self):
        process = self._pick()
        if process is not None:
            self._host.note(f"kill {process}")
            self._host.die(process)

    def _kill_two(self):
        self._kill()
        self._kill()

    def _tear(self):
        process = self._host.process("replay")
        if process is not None:
            self._host.note("kill replay in a write")
            process.is_torn = True
            self._host.die(process)

    def _freeze(self):
        process = self._pick()
        if process is not None:
            seconds = self._random.choice((1.0, 6.0, 15.0, 30.0, 60.0, math.inf))
            self._host.freeze(process, seconds)

    def _slow_down(self):
        name = self._random.choice(SERVICES)
        factor = self._random.choice((5.0, 50.0))
        self._host.note(f"{name} is {factor:.0f} times slower")
        self._slow[name] = (self._host.now_s() + 20.0, factor)

    def _cut(self):
        names = ("collector", "evaluator-0", *(("learner",) if self._is_shared else ()))
        process = self._pick(names)
        if process is not None:
            self._host.cut(process, self._random.choice((1.0, 8.0, 40.0)))

    def _drain(self):
        where = (("collector",), ("learner",), ("replay",), ("learner", "replay"))
        seconds = self._own.choice((6.0, 30.0))  # Ray's own is 30 s, runs here are short
        has_room = self._own.random() < 0.7
        self._host.has_room = lambda _services: has_room
        for name in self._own.choice(where) if self._is_shared else ("collector",):
            process = self._host.process(name)
            if process is not None and not process.drained_until_s:
                self._host.drain(process, seconds)

    def _late_insert(self):
        process = self._host.process("replay")
        if self._is_lockstep or process is None or process.service is None or not self._sent:
            return  # in lockstep all services are replaced, and nobody is left whom it could reach
        chunks = self._random.choice(self._sent[-2:]).value
        self._host.note("an insert is delivered once more")
        with suppress(StaleIncarnation, ValueError):
            process.service.insert(chunks or [])

    def _full_disk(self):
        seconds = self._random.choice((1.0, 10.0, 60.0))
        self._host.note(f"the disk is full for {seconds:.0f} s")
        self._full_until_s = self._host.now_s() + seconds

    def _crash(self):
        self._host.note("the environment crashes")
        self._crashes = True

    def _stop(self):
        self._host.note("stop")
        self.wants_stop = True

    def _power_cut(self):
        self._host.note("power cut")
        raise PowerCut

    def _effect(self, process, task):
        """Raises in place of a service whose work fails."""
        if task.verb in _WRITES and self._host.now_s() < self._full_until_s:
            if task.verb == "insert" and self._random.random() < 0.5:
                process.service.insert(task.arguments[0].value[:1])  # the first chunk had room
            raise OSError(errno.ENOSPC, "No space left on device")
        if task.verb == "collect" and self._crashes:
            self._crashes = False
            process.has_crashed = True
            raise EnvironmentCrashed("the simulator failed")

    def _death(self, process, task):
        """What is left of a call that its service died in."""
        if task is None or process.service is None:
            return
        if any(getattr(argument, "error", None) is not None for argument in task.arguments):
            return  # a call is not begun without what it is handed
        arguments = [getattr(a, "value", a) for a in task.arguments]
        if task.verb == "insert" and arguments[0] is not None:
            if getattr(process, "is_torn", False):
                self._write_torn(process.service, arguments[0])
            elif self._random.random() < 0.5:
                process.service.insert(arguments[0][: self._random.randint(1, len(arguments[0]))])
        elif task.verb == "save" and arguments[1] is not None and self._random.random() < 0.5:
            process.service.save(*arguments)

    def _write_torn(self, server, chunks):
        """The last record ends somewhere in its middle."""
        server.insert(chunks[:1])
        newest = server._replay._segments[-1]
        record_bytes = 40
        with newest.path.open("r+b") as file:
            file.seek(newest.end - self._random.randint(1, record_bytes))
            file.write(b"\0" * record_bytes)
