"""What is on a node that is about to end is saved and goes on elsewhere, told as a tape."""

import pytest

from tests.services.runtime.taped_run import TapedRun, error
from tests.services.runtime.test_recovery import ALL, FULL, saved_steps


def ends_after(run, service):
    """Steps that the learner took since its checkpoint, at each moment when a service was ended."""
    steps = []

    def on_end(process):
        if process.name == service and process.drained_until_s:
            learner = run.host.process("learner") or process
            steps.append(learner.service.steps - saved_steps(run.directory))

    run.host.on_end = on_end
    return steps


@pytest.mark.parametrize("is_lockstep", [False, True])
@pytest.mark.parametrize("service", ["learner", "replay", "collector"])
def test_what_is_on_a_drained_node_is_saved_and_starts_elsewhere(tmp_path, service, is_lockstep):
    run = TapedRun(tmp_path, is_lockstep=is_lockstep)
    run.when("learner", "train", 4, lambda _: run.host.drain(run.host.process(service), 20.0))
    is_saved = is_lockstep or service == "learner"  # what else moves has nothing to lose
    lost = ends_after(run, service) if is_saved else [0]
    outlived = []
    run.host.on_drained = outlived.append
    assert run.run().counts == ALL
    assert (lost, outlived, run.number_of("learner", "train")) == ([0], [], 8)
    assert run.starts(service) == 2 and run.total("dreamer_restarts_total", service) == 1


def test_a_node_that_ends_before_a_checkpoint_could_be_written_costs_what_its_kill_costs(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 4, lambda _: run.host.drain(run.host.process("learner"), 3.0))
    run.when("learner", "save", 1, error(FULL))
    assert run.run().counts == ALL
    assert run.number_of("learner", "train") > 8 and saved_steps(tmp_path) == 8


def test_a_stop_is_not_kept_waiting_by_a_drained_node(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 4, lambda _: run.host.drain(run.host.process("learner"), 99.0))
    run.when("learner", "save", "each", lambda _: setattr(run, "stops_at_s", 0.0))
    run.run()
    assert run.starts("learner") == 1 and saved_steps(tmp_path) == run.counts[1]


def test_without_room_elsewhere_it_saves_stays_and_goes_on(tmp_path):
    run = TapedRun(tmp_path)
    run.host.has_room = lambda _services: False
    saved = []
    run.when("learner", "save", "each", lambda _: saved.append(run.host.process("learner")))
    run.when("learner", "train", 4, lambda _: run.host.drain(run.host.process("learner"), 99.0))
    assert run.run().counts == ALL
    assert (run.starts("learner"), run.number_of("learner", "train")) == (1, 8)
    assert len(saved) == 2  # at the notice, and at the end


def test_room_that_comes_later_is_used_after_one_more_checkpoint(tmp_path):
    run = TapedRun(tmp_path)
    run.host.has_room = lambda _services: False
    run.when("learner", "train", 2, lambda _: run.host.drain(run.host.process("learner"), 99.0))
    run.when("learner", "train", 5, lambda _: setattr(run.host, "has_room", lambda _: True))
    lost = ends_after(run, "learner")
    assert run.run().counts == ALL
    assert (lost, run.starts("learner"), run.number_of("learner", "train")) == ([0], 2, 8)


def test_where_no_checkpoint_can_be_written_the_run_goes_on(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 2, lambda _: run.host.drain(run.host.process("learner"), 99.0))
    run.when("learner", "save", 1, error(FULL))
    assert run.run().counts == ALL
    assert run.starts("learner") == 1 and run.ended_s < 30  # when it is tried again


def test_a_collector_moves_without_a_checkpoint(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 2, lambda _: run.host.drain(run.host.process("collector"), 99.0))
    assert run.run().counts == ALL
    assert run.starts("collector") == 2
    assert (run.number_of("learner", "train"), run.number_of("learner", "save")) == (8, 1)


def test_moves_are_no_deaths(tmp_path):
    run = TapedRun(tmp_path, max_fruitless_restarts=0)
    run.when("learner", "train", 4, lambda _: run.host.drain(run.host.process("learner"), 20.0))
    assert run.run().counts == ALL


def test_an_evaluation_on_a_drained_node_is_begun_anew_elsewhere(tmp_path):
    run = TapedRun(tmp_path, evaluate_every=12)
    run.when("evaluator-0", "evaluate", 1, lambda process: run.host.drain(process, 99.0))
    run.run()
    assert run.starts("evaluator-0") >= 2
