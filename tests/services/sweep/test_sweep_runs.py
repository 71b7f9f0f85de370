"""What a sweep does with its runs, on a fake of Ray that plays a tape of how they end."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer_core.presets import preset
from dreamer_core.storage.run_directory import RunDirectoryError
from services.prometheus.config import MetricsConfig
from services.sweep import runs as sweep_runs
from services.sweep.command import SweepCommand
from services.sweep.directory import SweepDirectory, open_sweep
from services.sweep.plan import SweepPlan
from services.sweep.runs import RunLimits, SweepRuns
from services.sweep.sweep import sweep as sweep_by_command
from services.sweep.worker import Node, Outcome

DONE, FAILED = Outcome("done"), Outcome("failed", "no CUDA driver")
LOST = Outcome("interrupted", "its node was lost")
UNTIL_STOPPED, FOR_EVER = Outcome("stopped"), Outcome("stopped", "it never is")


def method(function):
    """What Ray makes of an actor's method."""
    return SimpleNamespace(remote=function)


@dataclass(frozen=True)
class Reference:
    """What an actor will return."""

    is_ready: Callable[[], bool]
    value: Callable[[], Any]


class FakeWorker:
    """What Ray makes of an actor: it waits for a node, or runs there and ends as its tape says."""

    def __init__(self, node, began):
        self._node, self._began = node, began
        self.is_stopping, self.is_alive = False, True
        self.outcome = FOR_EVER
        calls = (self._node_of, self._run, self._stop)
        self.node, self.run, self.stop = map(method, calls)

    def _node_of(self):
        return Reference(lambda: self._node is not None, self._where)

    def _where(self):
        return Node(self._node, self._node)

    def _run(self, order):
        if self._node is not None:
            self.outcome = self._began(order.run_dir.name.removesuffix("_0"), self._node)
        return Reference(self._has_ended, lambda: self.outcome)

    def _stop(self):
        self.is_stopping = True

    def _has_ended(self):
        return self.is_stopping if self.outcome is UNTIL_STOPPED else self.outcome is not FOR_EVER


class FakeRay:
    """Nodes that hold any number of runs; each begins on the first that it does not avoid.

    Args:
        tape: gives the outcome of a game on a node.
        nodes: their names.
    """

    def __init__(self, tape, nodes):
        self._tape, self.names = tape, list(nodes)
        self.workers, self.begun, self.most_at_once = [], [], 0
        self._drained = frozenset()

    def drain(self, nodes):
        """Nothing starts on these nodes from now on; returns them."""
        self._drained = frozenset(nodes)
        return self._drained

    def nodes(self):
        return [{"NodeID": n, "Alive": True, "Resources": {"CPU": 8.0}} for n in self.names]

    def remote(self, _):
        return SimpleNamespace(options=lambda **options: method(lambda: self._start(options)))

    def wait(self, references, *, num_returns, timeout):
        assert timeout < 1
        return [reference for reference in references if reference.is_ready()][:num_returns], []

    def get(self, reference):
        return reference.value()

    def kill(self, worker):
        worker.is_alive = False

    def _start(self, options):
        selector = options.get("label_selector", {}).get("ray.io/node-id", "")
        avoided = selector.removeprefix("!in(").removesuffix(")").split(", ")
        node = next((name for name in self.names if name not in (*avoided, *self._drained)), None)
        self.workers.append(FakeWorker(node, self._begin))
        alive = sum(worker.is_alive for worker in self.workers)
        self.most_at_once = max(alive, self.most_at_once)
        return self.workers[-1]

    def _begin(self, game, node):
        self.begun.append((game, node))
        return self._tape(game, node)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Sweeps one game or several; returns the sweep and the fake that it ran on."""
    monkeypatch.setattr(sweep_runs, "_LOOK_INTERVAL_S", 0.0)

    def run(tape, *games, nodes=("box",), should_stop=lambda: False, drained=(), **limits):
        fake = FakeRay(tape, nodes)
        monkeypatch.setattr(sweep_runs, "ray", fake)
        plan = SweepPlan(config=preset("debug"), games=games or ("pong",), seeds=(0,))
        sizes = {"num_cpus": 1, "num_gpus": 0, "at_once": None, "retries": 2, "is_growing": False}
        with open_sweep(tmp_path, plan) as directory:
            runs = SweepRuns(plan, directory, RunLimits(**{**sizes, **limits}), lambda _: None)
            try:
                runs.run(should_stop, lambda: fake.drain(set(drained)))
            finally:
                assert not any(worker.is_alive for worker in fake.workers)
        return runs, fake

    return run


def only_on(good):
    """The tape of a sweep on nodes of which one is well."""
    return lambda _, node: DONE if node == good else FAILED


GAMES = ("pong", "boxing", "hero", "freeway", "skiing")


# A node that is drained


def test_a_run_on_a_node_that_is_drained_saves_and_goes_on_elsewhere(sweep, caplog):
    ends = {"leaving": UNTIL_STOPPED, "good": DONE}
    nodes = tuple(ends)
    runs, fake = sweep(lambda _, node: ends[node], nodes=nodes, drained=["leaving"])
    assert fake.begun == [("pong", "leaving"), ("pong", "good")]
    assert [worker.is_stopping for worker in fake.workers] == [True, False]
    assert runs.progress.count("done") == 1 and "failed" not in caplog.text


# What fails


def test_a_run_that_failed_on_a_node_is_tried_on_another(sweep):
    runs, fake = sweep(only_on("good"), nodes=("bad", "good"))
    assert fake.begun == [("pong", "bad"), ("pong", "good")]
    assert runs.progress.count("done") == 1


def test_a_run_that_failed_is_tried_again_on_the_only_node_that_is_left(sweep):
    runs, fake = sweep(lambda *_: FAILED)
    assert fake.begun == [("pong", "box")] * 3
    (failed,) = runs.progress.where("failed")
    assert (failed.failures, failed.reason) == (3, "no CUDA driver")


def test_a_node_on_which_three_runs_failed_in_a_row_is_named_and_set_aside(sweep, caplog):
    runs, fake = sweep(only_on("good"), *GAMES, nodes=("bad", "good"), at_once=1, retries=1)
    assert runs.progress.count("done") == 5
    assert [game for game, node in fake.begun if node == "bad"] == ["pong", "boxing", "hero"]
    assert "Node bad is set aside" in caplog.text


def test_the_last_node_is_never_set_aside(sweep, caplog):
    runs, _ = sweep(lambda game, _: DONE if game == "skiing" else FAILED, *GAMES, at_once=1)
    assert str(runs.progress) == "1 done, 0 running, 0 waiting, 4 failed"
    assert "set aside" not in caplog.text


def test_scores_that_cannot_be_written_fail_their_runs_and_not_the_sweep(sweep, monkeypatch):
    def record(_, score):
        if score.game == "pong":
            raise RunDirectoryError("scores.json cannot be read")

    monkeypatch.setattr(SweepDirectory, "record", record)
    runs, fake = sweep(lambda *_: DONE, "pong", "boxing")
    assert str(runs.progress) == "1 done, 0 running, 0 waiting, 1 failed"
    assert "scores.json cannot be read" in runs.progress.where("failed")[0].reason
    assert fake.begun.count(("pong", "box")) == 3


# The end


def test_every_run_is_stopped_when_the_sweep_itself_fails(sweep):
    shares = iter([0, 0, 1])
    with pytest.raises(ZeroDivisionError):
        sweep(lambda *_: UNTIL_STOPPED, *GAMES, should_stop=lambda: 1 / (1 - next(shares)) < 1)


def test_a_run_that_does_not_end_within_the_patience_is_killed_and_waits(sweep, monkeypatch):
    monkeypatch.setattr(sweep_runs, "STOP_PATIENCE_S", 0.2)
    monkeypatch.setattr(sweep_runs, "_STOP_MARGIN_S", 0.1)
    answers = iter([False, False, False, True])
    tape = {"pong": FOR_EVER, "boxing": UNTIL_STOPPED}
    runs, fake = sweep(lambda game, _: tape[game], *tape, should_stop=lambda: next(answers))
    assert str(runs.progress) == "0 done, 0 running, 2 waiting, 0 failed"
    assert all(worker.is_stopping for worker in fake.workers)


# Limits


def test_no_more_runs_are_begun_than_may_run_at_once(sweep):
    runs, fake = sweep(lambda *_: DONE, *GAMES, at_once=2)
    assert fake.most_at_once == 2 and runs.progress.count("done") == 5


def test_a_run_that_is_lost_four_times_without_a_step_fails_for_good(sweep):
    runs, fake = sweep(lambda *_: LOST)
    (failed,) = runs.progress.where("failed")
    assert len(fake.begun) == 4 and "lost 4 times without a policy step" in failed.reason


def test_a_run_that_is_lost_is_not_counted_as_failed(sweep):
    outcomes = iter([LOST, LOST, LOST, DONE])
    runs, _ = sweep(lambda *_: next(outcomes), retries=0)
    assert [(run.phase, run.failures) for run in runs.progress.runs] == [("done", 0)]


def test_where_the_runs_stand_is_written_down_for_other_commands(sweep, tmp_path):
    sweep(only_on("none"), "pong", retries=0)
    (told,) = SweepDirectory(tmp_path).noted().values()
    assert told == {"phase": "failed", "node": "box", "failures": 1, "reason": "no CUDA driver"}


def test_a_sweep_goes_on_where_its_state_cannot_be_written(sweep, tmp_path, caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SweepDirectory, "state", tmp_path / "gone" / "state.json")
        runs, _ = sweep(only_on("box"), "pong")
    assert runs.progress.count("done") == 1 and "are not told where the runs stand" in caplog.text


def test_what_a_killed_command_had_running_does_not_run_while_ray_starts(tmp_path, monkeypatch):
    command = SweepCommand(
        config=preset("debug"), games="pong", sweep_dir=tmp_path, metrics=MetricsConfig(port=0)
    )
    noted = []

    @contextmanager
    def starting(*_arguments, **_options):
        noted.append(SweepDirectory(tmp_path).noted())
        raise InterruptedError
        yield

    monkeypatch.setattr("services.sweep.sweep.connected", starting)
    with open_sweep(tmp_path, SweepPlan(config=command.config, games=("pong",), seeds=(0,))) as own:
        own.note({"pong_0": {"phase": "running"}})
    with pytest.raises(InterruptedError):
        sweep_by_command(command, observe=lambda _: None)
    assert noted == [{}]
