"""What happens when a service dies, hangs or fails, told as a tape on a simulated host."""

import errno

import pytest

from dreamer_core.agent.agent import NonFiniteLoss
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.errors import BadInput, Failed
from dreamer_core.storage import checkpoint
from dreamer_core.storage.store import LocalStore
from services.runtime.calls import NotStarted, Raised
from services.runtime.crew import ServiceLost
from tests.services.runtime.taped_run import TapedRun, error

ALL = (32, 8)
FULL = OSError(errno.ENOSPC, "No space left on device")


def saved_steps(tmp_path):
    return checkpoint.newest(LocalStore(tmp_path / "checkpoints")).step


# Deaths


def test_a_chunk_in_flight_when_the_replay_dies_is_collected_again_by_a_new_collector(tmp_path):
    run = TapedRun(tmp_path)
    run.when("replay", "insert", 3, run.kill("replay"))
    assert run.run().counts == ALL
    assert (run.starts("replay"), run.starts("collector"), run.starts("learner")) == (2, 2, 1)


def test_a_replay_that_dies_with_nothing_on_its_way_costs_the_collector_nothing(tmp_path):
    run = TapedRun(tmp_path)
    run.when("replay", "sample", 2, run.kill("replay"))
    run.seconds["collect"], run.seconds["train"] = 0.1, 2.0
    assert run.run().counts == ALL
    assert (run.starts("replay"), run.starts("learner")) == (2, 1)


def test_a_collector_that_dies_loses_its_call_and_nothing_that_was_stored(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 4, run.kill("collector"))
    assert run.run().counts == ALL
    assert run.starts("collector") == 2 and run.number_of("collector", "collect") == 9


def test_what_the_collector_brings_while_the_learner_dies_is_stored(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 3, run.kill("learner"))
    assert run.run().counts == ALL
    assert run.starts("collector") == 1 and run.number_of("collector", "collect") == 8


def test_a_learner_that_dies_takes_the_steps_since_its_checkpoint_again(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 6, run.kill("learner"))
    assert run.run().counts == ALL
    assert run.number_of("learner", "train") > 8 and saved_steps(tmp_path) == 8


def test_the_weights_of_a_new_learner_are_published_at_once(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["train"] = 1.0
    run.when("learner", "train", 4, run.kill("learner"))  # weights of the old one are published
    run.run()
    started = [float(x.split()[0]) for x in run.host.tape if "start learner" in x][1]
    published = [at for at, call in run.calls if call == ("learner", "snapshot")]
    assert any(started <= at < started + 1.0 for at in published)


def test_two_deaths_at_once_are_one_recovery(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 3, run.kill("replay", "collector"))
    assert run.run().counts == ALL
    assert run.total("dreamer_restarts_total", "replay") == 1
    assert run.total("dreamer_restarts_total", "collector") == 1


def test_a_service_that_dies_while_another_is_replaced_is_replaced_too(tmp_path):
    run = TapedRun(tmp_path)
    run.when("replay", "insert", 3, run.kill("replay"))
    run.when("replay", "fence", 1, run.kill("replay"))
    assert run.run().counts == ALL
    assert run.starts("replay") == 3


# Giving up


def test_the_fourth_death_without_progress_ends_the_run_with_the_reason(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", "each", run.kill("collector"))
    with pytest.raises(ServiceLost, match="died 4 times at policy step 0 without progress"):
        run.run()
    assert run.starts("collector") == 4


def test_a_step_of_progress_begins_the_count_of_deaths_anew(tmp_path):
    run = TapedRun(tmp_path)
    for number in (2, 4, 6, 8, 10, 12):
        run.when("collector", "collect", number, run.kill("collector"))
    assert run.run().counts == ALL


def test_steps_that_are_taken_again_and_lost_again_are_no_progress(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collect"] = 0.01
    for number in (4, 7, 11, 14, 18, 21, 25, 28):  # at step 3, 2, 3, 2 ... of the first checkpoint
        run.when("learner", "train", number, run.kill("learner"))
    with pytest.raises(ServiceLost, match="died 4 times"):
        run.run()


@pytest.mark.parametrize("service", ["learner", "replay", "collector"])
@pytest.mark.parametrize(
    ("raised", "told", "words"),
    [
        (BadInput("of another run"), BadInput, "of another run"),
        (Failed("no card"), ServiceLost, "could not start: no card"),
        (OSError(errno.EACCES, "Denied"), ServiceLost, r"could not start: .*Denied"),
        (KeyError("a bug"), NotStarted, "KeyError"),
    ],
)
def test_a_service_that_cannot_start_ends_the_run_as_what_it_raised(
    tmp_path, service, raised, told, words
):
    run = TapedRun(tmp_path)
    run.when(service, "__init__", 1, error(raised))
    with pytest.raises(told, match=words):
        run.run()
    assert run.starts(service) == 1


def test_a_service_that_refuses_what_the_user_gave_ends_the_run_as_bad_input(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 3, error(BadInput("no such game on this host")))
    with pytest.raises(BadInput, match="no such game"):
        run.run()
    assert TapedRun(tmp_path).run().counts == ALL


def test_a_service_whose_successor_cannot_start_ends_the_run_at_once(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 3, run.kill("collector"))
    run.when("learner", "train", 1, run.kill("learner"))
    run.when("learner", "__init__", 2, error(Failed("damaged")))
    with pytest.raises(ServiceLost, match=r"could not start: .*damaged"):
        run.run()


# Silence


def test_a_collector_is_ended_when_its_limit_has_passed_and_not_before(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 3, run.freeze("collector", 19.0))
    run.when("collector", "collect", 5, run.freeze("collector"))
    assert run.run().counts == ALL
    assert run.starts("collector") == 2


def test_a_silent_learner_is_ended_and_its_steps_are_taken_again(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["learner", "train"] = 0.1
    run.when("collector", "collect", 4, run.freeze("learner"))
    assert run.run().counts == ALL
    assert (run.starts("learner"), run.starts("replay")) == (2, 1)


def test_a_learner_has_longer_for_its_first_step_which_may_compile(tmp_path):
    run = TapedRun(tmp_path, first_step_timeout_s=100.0)
    run.when("learner", "train", 1, run.freeze("learner", 95.0))
    assert run.run().counts == ALL and run.starts("learner") == 1


@pytest.mark.parametrize(("number", "limit_s"), [(1, 100.0), (2, 50.0)])
def test_a_learner_that_is_silent_beyond_its_limit_is_ended_then(tmp_path, number, limit_s):
    run = TapedRun(tmp_path, first_step_timeout_s=100.0)
    run.when("learner", "train", number, run.freeze("learner"))
    run.run()
    assert run.counts == ALL and run.starts("learner") == 2
    assert limit_s < run.ended_s < limit_s + 40.0


def test_a_replay_that_is_silent_before_the_first_step_is_not_waited_for_as_long(tmp_path):
    run = TapedRun(tmp_path, first_step_timeout_s=100.0)
    run.when("replay", "sample", 1, run.freeze("replay"))
    assert run.run().counts == ALL and run.ended_s < 90.0


def test_a_learner_that_waits_for_a_silent_replay_is_not_to_blame(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 4, run.freeze("replay"))
    assert run.run().counts == ALL
    assert (run.starts("learner"), run.starts("replay")) == (1, 2)


def test_a_learner_whose_weights_wait_behind_a_step_for_a_silent_replay_is_not_to_blame(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds.update({("replay", "sample"): 0.3, ("learner", "train"): 1.0})
    run.when("learner", "train", 2, run.freeze("replay"))
    assert run.run().counts == ALL
    assert (run.starts("learner"), run.starts("replay")) == (1, 2)


def test_a_save_that_is_silent_is_given_up_and_done_again_by_a_new_learner(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "save", 1, run.freeze("learner"))
    run.run()
    assert run.counts == ALL and saved_steps(tmp_path) == 8


# Stops amid faults


def test_a_stop_during_a_recovery_is_obeyed_after_it(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 4, run.kill("collector"))
    run.stops_at_s = 4.6
    run.run()
    assert run.ended_s < 8.0 and saved_steps(tmp_path) == run.counts[1]


def test_a_replay_that_is_silent_when_a_stop_is_asked_for_is_replaced_within_seconds(tmp_path):
    run = TapedRun(tmp_path)
    run.stops_at_s = 5.0
    run.when("replay", "flush", 1, run.freeze("replay"))
    run.run()
    assert run.starts("replay") == 2 and run.ended_s < 30.0
    assert saved_steps(tmp_path) == run.counts[1]


# Exceptions


def test_chunks_that_a_full_disk_refuses_are_stored_once_there_is_room(tmp_path):
    run = TapedRun(tmp_path)
    for number in (3, 4):
        run.when("replay", "insert", number, error(FULL))
    assert run.run().counts == ALL
    inserts = [at for at, call in run.calls if call == ("replay", "insert")]
    assert inserts[3] - inserts[2] > 5.0 and run.starts("replay") == 1
    assert run.total("dreamer_errors_total", "replay") == 2


def test_a_save_that_a_full_disk_refuses_is_tried_again_and_training_goes_on(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collect"] = 5.0
    run.when("learner", "save", 1, error(FULL))
    assert run.run().counts == ALL
    assert run.starts("learner") == 1 and run.total("dreamer_errors_total", "learner") == 1


def test_a_full_disk_at_the_last_save_ends_the_run_and_leaves_the_checkpoint_before(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collect"] = 5.0
    run.stops_at_s = 30.0
    run.when("learner", "save", 3, error(FULL))
    with pytest.raises(ServiceLost, match=r"last checkpoint was not written: .*No space left"):
        run.run()
    assert saved_steps(tmp_path) > 0


def test_an_environment_that_crashes_costs_its_call_alone(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", 3, error(EnvironmentCrashed("the simulator failed")))
    assert run.run().counts == ALL
    assert run.starts("collector") == 2


def test_an_environment_that_always_crashes_ends_the_run_with_its_words(tmp_path):
    run = TapedRun(tmp_path)
    run.when("collector", "collect", "each", error(EnvironmentCrashed("no simulator here")))
    with pytest.raises(ServiceLost, match="no simulator here"):
        run.run()


def test_what_no_replacement_mends_ends_the_run_and_it_can_be_resumed(tmp_path):
    run = TapedRun(tmp_path)
    run.when("replay", "insert", 3, error(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(ServiceLost, match=r"Input/output error.*the run resumes"):
        run.run()
    assert TapedRun(tmp_path).run().counts == ALL


def test_a_bug_in_a_service_is_told_as_one(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 2, error(KeyError("deter")))
    with pytest.raises(Raised, match="KeyError") as raised:
        run.run()
    assert not isinstance(raised.value, Failed)


def test_a_loss_that_is_not_finite_ends_the_run_and_nothing_is_saved_after_it(tmp_path):
    run = TapedRun(tmp_path)
    run.when("learner", "train", 5, error(NonFiniteLoss("image loss is nan at step 4")))
    with pytest.raises(NonFiniteLoss, match="image loss is nan"):
        run.run()
    assert run.number_of("learner", "save") == 0


# Lockstep


@pytest.mark.parametrize("service", ["replay", "learner", "collector"])
def test_in_lockstep_a_death_takes_the_whole_run_back_and_changes_no_number(tmp_path, service):
    calm = TapedRun(tmp_path / "calm", is_lockstep=True).run()
    broken = TapedRun(tmp_path / "broken", is_lockstep=True)
    broken.when("learner", "train", 5, broken.kill(service))
    broken.run()
    assert broken.counts == calm.counts == ALL
    assert [broken.starts(name) for name in ("replay", "learner", "collector")] == [2, 2, 2]
    states = [
        int(checkpoint.load(LocalStore(tmp_path / name / "checkpoints")).tensors["digest"])
        for name in ("calm", "broken")
    ]
    assert states[0] == states[1]


def test_in_lockstep_only_what_died_counts_as_replaced(tmp_path):
    run = TapedRun(tmp_path, is_lockstep=True)
    run.when("learner", "train", 5, run.kill("learner"))
    run.run()
    assert run.total("dreamer_restarts_total", "learner") == 1
    assert run.total("dreamer_restarts_total", "replay") == 0


def test_in_lockstep_an_evaluation_goes_on_while_the_run_is_taken_back(tmp_path):
    run = TapedRun(tmp_path, is_lockstep=True, evaluate_every=8)
    run.seconds["evaluate"] = 6.0
    run.when("learner", "train", 3, run.kill("learner"))
    run.run()
    taken_back = [float(x.split()[0]) for x in run.host.tape if "start learner" in x][1]
    given_up = [float(x.split()[0]) for x in run.host.tape if "end evaluator-0" in x]
    assert not any(taken_back - 1.0 < at < taken_back + 1.0 for at in given_up)
    assert run.counts == ALL
