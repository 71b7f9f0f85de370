"""A supervised run on a simulated host: a script of what happens to it, a tape of what it did.

Calls take fixed times: 1 s to collect, 0.1 s for a gradient step, 3 s for an evaluation, 0.5 s for
a service to start, 0.01 s for all else.
"""

from collections import Counter

from dreamer_core.config import EvaluationConfig
from dreamer_core.run.schedule import Schedule
from services.runtime.calls import READY
from services.runtime.config import RuntimeConfig
from services.runtime.crew import Crew
from services.runtime.evaluations import Evaluations
from services.runtime.faults import Faults
from services.runtime.saves import Saves
from services.runtime.supervisor import Supervisor
from tests.simulation.host import Hangs, SimulatedHost
from tests.simulation.services import make_config, makers

SECONDS = {"collect": 1.0, "train": 0.1, "evaluate": 3.0, "__init__": 0.5}


class TapedRun:
    """Prefill 8 steps, 4 a collect call, 3 steps a gradient step, 32 in all: 8 gradient steps."""

    def __init__(
        self,
        directory,
        *,
        is_lockstep=False,
        has_state=True,
        evaluate_every=None,
        evaluators=1,
        **runtime,
    ):
        self.config, self.directory = make_config(), directory
        made = makers(self.config, directory, is_lockstep=is_lockstep, has_state=has_state)
        self.seconds = dict(SECONDS)
        self.host = SimulatedHost(made, self._take)
        self.calls, self.reports, self._script, self._seen = [], [], [], Counter()
        self.host.on_call, self.host.on_effect = self._on_call, self._on_effect
        self.limits = RuntimeConfig(
            **{
                "call_timeout_s": 50.0,
                "first_step_timeout_s": 50.0,
                "collect_timeout_s": 20.0,
                "evaluation_timeout_s": 30.0,
                **runtime,
            }
        )
        self.crew = Crew(self.host, self.limits, is_lockstep=is_lockstep)
        self.schedule = Schedule(
            self.config.schedule, steps=self.config.steps, is_lockstep=is_lockstep
        )
        self.saves = Saves(self.crew, self.config.checkpoint.interval_s)
        how = EvaluationConfig(interval_frames=evaluate_every)
        self.evaluations = Evaluations(self.crew, how, evaluators, frames_per_policy_step=1)
        self.stops_at_s = float("inf")

    def when(self, service, verb, number, do):
        """Has something happen in place of a service's n-th call of a verb, before its effect."""
        self._script.append((service, verb, number, do))

    def kill(self, *services):
        """What `when` does: these services die."""

        def do(_process):
            for service in services:
                self.host.die(self.host.process(service))

        return do

    def freeze(self, service, seconds=float("inf")):
        """What `when` does: a service hangs, if it is the one that is called, in that call."""

        def do(process):
            frozen = self.host.process(service)
            self.host.freeze(frozen, seconds)
            if frozen is process:
                raise Hangs

        return do

    def run(self):
        """Runs to the end, or to the stop."""
        supervisor = Supervisor(
            crew=self.crew,
            schedule=self.schedule,
            saves=self.saves,
            evaluations=self.evaluations,
            faults=Faults(self.limits.max_fruitless_restarts),
            observe=self._observe,
        )
        try:
            supervisor.run(self.wants_stop)
            supervisor.evaluate(self.wants_stop)
            self.ended_s = self.host.now_s()
        finally:
            supervisor.close()
        return self

    def wants_stop(self):
        return self.host.now_s() >= self.stops_at_s

    @property
    def counts(self):
        """(policy steps, gradient steps)."""
        return self.schedule.policy_steps, self.schedule.gradient_steps

    def number_of(self, service, verb):
        """Calls of a verb that were made."""
        return sum(call == (service, verb) for _, call in self.calls)

    def starts(self, service):
        """How often a service was started."""
        return sum(f"start {service}" in line for line in self.host.tape)

    def total(self, name, service):
        """The newest value of a counter with the label service."""
        found = [
            r.values[name]
            for r in self.reports
            if r.labels.get("service") == service and name in r.values
        ]
        return found[-1] if found else 0

    def _take(self, service, verb):
        return self.seconds.get((service, verb), self.seconds.get(verb, 0.01))

    def _on_call(self, service, verb, arguments):
        if verb not in (READY, "close"):
            self.calls.append((self.host.now_s(), (service, verb)))

    def _on_effect(self, process, task):
        self._seen[process.name, task.verb] += 1
        for service, verb, number, do in self._script:
            is_it = (service, verb) == (process.name, task.verb)
            if is_it and number in (self._seen[service, verb], "each"):
                do(process)

    def _observe(self, report, policy_steps, gradient_steps):
        self.reports.append(report)


def error(exception):
    """What `when` does: the service raises."""

    def do(_process):
        raise exception

    return do
