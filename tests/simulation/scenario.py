"""One simulated run from its start to its end, through everything that an adversary does to it.

The supervisor, its parts, the schedule, the replay server with its files and the checkpoints are
the real ones. A run may end and begin again, after a stop, a power cut or a failure, until it is
finished.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from dreamer_core.config import EvaluationConfig
from dreamer_core.errors import Failed
from dreamer_core.replay.format import decode_chunk
from dreamer_core.replay.reader import ReplayFiles
from dreamer_core.run.schedule import Schedule
from dreamer_core.storage import checkpoint
from dreamer_core.storage.store import LocalStore
from services.runtime.config import RuntimeConfig
from services.runtime.crew import Crew
from services.runtime.evaluations import Evaluations
from services.runtime.faults import Faults
from services.runtime.saves import Saves
from services.runtime.supervisor import Supervisor
from tests.simulation.adversary import Adversary
from tests.simulation.host import PowerCut, SimulatedHost
from tests.simulation.services import make_config, makers, names_of
from tests.simulation.watch import Watch

MEMORY = Path("/dev/shm")
MAX_LIVES = 25
MAX_IN_FLIGHT = 3
RUNTIME = RuntimeConfig(
    call_timeout_s=10.0,
    first_step_timeout_s=10.0,
    collect_timeout_s=6.0,
    evaluation_timeout_s=20.0,
    learner_calls_in_flight=MAX_IN_FLIGHT,
)
KEEPING = make_config(save_interval_s=5.0)
EVICTING = make_config(capacity=24, segment=8, save_interval_s=5.0)
EVALUATION = EvaluationConfig(interval_frames=12)


@dataclass(frozen=True)
class Variant:
    """What kind of run."""

    is_lockstep: bool = False
    has_state: bool = True
    """The environment can tell where it stands, so that lockstep can resume exactly."""
    is_evicting: bool = False
    is_run_dir_shared: bool = False

    @property
    def config(self):
        """Of the run."""
        return EVICTING if self.is_evicting else KEEPING


@dataclass
class Outcome:
    """How a run went."""

    seed: int | None
    variant: Variant
    lives: int = 0
    ends: Counter = field(default_factory=Counter)
    faults: list = field(default_factory=list)
    tape: list = field(default_factory=list)
    error: BaseException | None = None
    is_compared: bool = False
    """A lockstep run that could be compared with an undisturbed one."""


def variant_of(rng):
    """What kind of run a seed is about."""
    is_lockstep = rng.random() < 0.5
    return Variant(
        is_lockstep=is_lockstep,
        has_state=rng.random() < 0.9,
        is_evicting=rng.random() < 0.25,
        is_run_dir_shared=rng.random() < 0.2,
    )


def simulate(seed, max_faults=6):
    """Runs the schedule of faults of a seed; the outcome holds what was violated, if anything."""
    rng = random.Random(seed)
    variant = variant_of(rng)
    own = random.Random(f"drains of {seed}")
    return run(variant, Adversary(rng, rng.randint(1, max_faults), own), seed)


def run(variant, adversary, seed=None):
    """Runs a variant until it is finished, whatever the adversary does."""
    outcome = Outcome(seed, variant)
    directory = Path(mkdtemp(prefix="dreamer-simulation-", dir=MEMORY if MEMORY.is_dir() else None))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        story = Story(variant, adversary, directory, outcome)
        while not story.is_finished:
            story.live()
        story.check_end()
    except Exception as error:  # noqa: BLE001 (told with the tape that led to it)
        outcome.error = error
    finally:
        logging.disable(level)
        shutil.rmtree(directory, ignore_errors=True)
    outcome.faults = adversary.done
    return outcome


@cache
def undisturbed(variant):
    """(learner's state, rows) at the end of a run to which nothing happens."""
    directory = Path(mkdtemp(prefix="dreamer-simulation-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        adversary = Adversary(random.Random(0), 0)
        story = Story(variant, adversary, directory, Outcome(None, variant))
        story.live()
        return story.digest(), story.rows()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Story:
    """A run directory, the lives of the run in it, and what must hold in each of them."""

    def __init__(self, variant, adversary, directory, outcome):
        self.variant, self.adversary, self.outcome = variant, adversary, outcome
        self.directory = directory
        self.config = variant.config
        self._incarnation = 0
        self.acknowledged = {}  # name of a row to its reward
        self.is_finished = False
        self.is_exact = variant.is_lockstep and variant.has_state
        self._has_resume_point = False  # a whole checkpoint of this run can be resumed exactly
        self.host = self.schedule = self.watch = None

    def live(self):
        """One life of the run, from the start of its supervisor to its end."""
        outcome, adversary = self.outcome, self.adversary
        outcome.lives += 1
        assert outcome.lives <= MAX_LIVES, "the run is never finished"
        was_over = adversary.is_over
        self._set_up()
        end = "failed"
        try:
            self._supervise()
            self.is_finished = self.schedule.is_done
            end = "finished" if self.is_finished else "stopped"
        except PowerCut:
            end = "power cut"
        except Failed as failed:
            self.host.note(f"failed: {failed}")
            if was_over or not str(failed):
                raise AssertionError("failed without a reason") from failed
        finally:
            outcome.tape += [f"--- life {outcome.lives}", *self.host.tape, f"--- {end}"]
            outcome.ends[end] += 1
            for process in self.host.processes():
                self.host.die(process)
        self._check_in_flight()
        self.watch.check_life()

    def _set_up(self):
        variant, config = self.variant, self.config
        made = makers(
            config, self.directory, is_lockstep=variant.is_lockstep, has_state=variant.has_state
        )
        self.host = host = SimulatedHost(made, self.adversary.seconds)
        made["collector"] = self._seen(made["collector"])
        self.adversary.take(
            host,
            is_lockstep=variant.is_lockstep,
            is_run_dir_shared=variant.is_run_dir_shared,
        )
        moment = host.on_event

        def on_event():
            self._check_counts()
            self.watch.check()
            moment()

        host.on_event, host.on_done, host.on_call = on_event, self._see_result, self._see_call
        self.schedule = Schedule(
            config.schedule, steps=config.steps, is_lockstep=variant.is_lockstep
        )
        self.watch = Watch(
            host=host,
            schedule=self.schedule,
            config=config,
            evaluation=EVALUATION,
            is_lockstep=variant.is_lockstep,
            quiet_since_s=self.adversary.quiet_since_s,
            slow_until_s=self.adversary.slow_until_s,
        )
        host.on_start, host.on_silence = self.watch.started, self.watch.killed
        host.on_end, host.on_drained = self.watch.ended, self.watch.outlived

    def _supervise(self):
        crew = Crew(self.host, RUNTIME, is_lockstep=self.variant.is_lockstep)
        supervisor = Supervisor(
            crew=crew,
            schedule=self.schedule,
            saves=Saves(crew, self.config.checkpoint.interval_s),
            evaluations=Evaluations(crew, EVALUATION, 1, frames_per_policy_step=1),
            faults=Faults(RUNTIME.max_fruitless_restarts),
            observe=self.watch.observe,
        )
        self.watch.begin(supervisor)
        supervisor.run(lambda: self.adversary.wants_stop)
        supervisor.evaluate(lambda: self.adversary.wants_stop)
        supervisor.close()
        if self.schedule.is_done:
            self.watch.check_end()

    def _seen(self, make_collector):
        """A collector of another incarnation plays something else than one that goes on.

        That is allowed only before the first checkpoint: from then on nothing that the adversary
        does damages what an exact resume needs.
        """

        def make(incarnation):
            if self.variant.is_lockstep and self.variant.has_state and self._has_resume_point:
                assert incarnation == self._incarnation, "the run was not resumed exactly"
            self.is_exact &= incarnation == 0
            self._incarnation = incarnation
            return make_collector(incarnation)

        return make

    # What must hold

    def _see_call(self, service, verb, arguments):
        """The bounds of the ratio, by what replay and learner hold and not by what is counted."""
        self.adversary.saw_call(verb, arguments)
        self.watch.called(service, verb, arguments)
        if verb not in ("sample", "collect"):
            return
        config, replay = self.config.schedule, self.host.process("replay")
        if replay is None or replay.service is None:
            return
        stored = replay.service.counts().policy_steps
        prefill, ratio = config.prefill_policy_steps, config.policy_steps_per_gradient_step
        if verb == "sample":
            due = max(0, stored - prefill) // ratio
            assert arguments[0] < due, f"step {arguments[0]} of {due} is trained before it is due"
        learner = self.host.process("learner")
        if verb == "collect" and learner is not None and learner.service is not None:
            lead = config.collect_policy_steps * (1 if self.variant.is_lockstep else 2)
            bound = prefill + ratio * learner.service.steps + lead + ratio - 1
            asked = stored + arguments[1].num_policy_steps
            assert arguments[1].is_random or asked <= bound, f"{asked} steps asked, bound {bound}"
            assert asked <= self.config.steps, f"{asked} steps asked of {self.config.steps}"

    def _see_result(self, process, task, value):
        self.watch.answered(process, task, value)
        if process.name == "replay" and task.verb == "insert":
            for chunk in task.arguments[0].value:
                names = names_of(chunk.image).tolist()
                self.acknowledged.update(zip(names, chunk.reward.tolist(), strict=True))
        if process.name == "learner" and task.verb == "save":
            self._has_resume_point = True
        if process.name == "replay" and task.verb == "sample":
            _check_batch(value)

    def _check_counts(self):
        schedule = self.schedule
        assert schedule.gradient_steps <= schedule.gradient_steps_issued
        assert schedule.gradient_steps_issued <= schedule.due(schedule.policy_steps)
        assert schedule.policy_steps <= schedule.policy_steps_issued

    def _check_in_flight(self):
        most = self.host.most_in_flight
        limit = 1 if self.variant.is_lockstep else MAX_IN_FLIGHT
        assert most["learner", "train"] <= limit, f"{most['learner', 'train']} steps in flight"
        for kind in (
            ("collector", "collect"),
            ("replay", "insert"),
            ("learner", "snapshot"),
            ("learner", "save"),
            ("evaluator-0", "evaluate"),
            ("exchange", "take"),
        ):
            assert most[kind] <= 1, f"{most[kind]} calls {kind} in flight"

    def check_end(self):
        """What a run that is finished leaves."""
        schedule, rows = self.schedule, self.rows()
        names = [name for name, _ in rows]
        assert schedule.policy_steps == self.config.steps
        assert schedule.gradient_steps == schedule.due(self.config.steps)
        files = ReplayFiles(self.directory / "replay")
        assert files.totals.policy_steps == self.config.steps, "steps were counted twice or lost"
        assert not list(files.damage())
        assert names == sorted(set(names)), "rows are stored twice or out of order"
        is_taken_back = self.variant.is_lockstep and self.variant.has_state  # and collected again
        stored = dict(rows)
        for name, reward in self.acknowledged.items():
            if name >= names[0] and not is_taken_back:
                assert stored.get(name) == reward, f"row {name} was acknowledged and is lost"
        if not self.variant.is_evicting:
            assert sum(name % 256 > 0 for name in names) == self.config.steps
        assert checkpoint.newest(self._store()).step == schedule.gradient_steps
        if self.is_exact:
            self.outcome.is_compared = True
            digest, same_rows = undisturbed(self.variant)
            num = min(len(rows), len(same_rows))  # what was evicted may be deleted later
            assert rows[-num:] == same_rows[-num:], "the rows are not those of an undisturbed run"
            assert self.digest() == digest, "lockstep computed something else"

    def rows(self):
        """[(name, reward)] of what is stored, in the order of writing."""
        found, files = [], ReplayFiles(self.directory / "replay")
        for record in files.records:
            chunk = decode_chunk(record, files.layout)
            found += zip(names_of(chunk.image).tolist(), chunk.reward.tolist(), strict=True)
        return found

    def digest(self):
        """The learner's state in the newest checkpoint."""
        return int(checkpoint.load(self._store()).tensors["digest"])

    def _store(self):
        return LocalStore(self.directory / "checkpoints")


def _check_batch(batch):
    """Rows that follow each other are of one episode and in order, unless is_first says not."""
    names = names_of(batch.image)
    assert batch.is_first[:, 0].all()
    crosses = (np.diff(names) != 1) & ~batch.is_first[:, 1:]
    assert not crosses.any(), f"a sequence crosses a join: {names}, {batch.is_first}"
