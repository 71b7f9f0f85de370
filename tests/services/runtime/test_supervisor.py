"""The supervisor, told as what it does when: work, ends, saves. See test_recovery.py for faults."""

import errno
import logging

import pytest

from tests.services.runtime.taped_run import TapedRun, error

ALL = (32, 8)


def test_a_run_takes_all_its_steps_and_exactly_their_share_of_gradient_steps(tmp_path):
    assert TapedRun(tmp_path).run().counts == ALL


def test_the_log_names_the_policy_step_of_each_checkpoint(tmp_path, caplog):
    caplog.set_level(logging.INFO, "services.runtime.saves")
    TapedRun(tmp_path).run()
    assert caplog.messages[-1].startswith("Wrote the checkpoint of policy step 32 in ")


def test_lockstep_saves_a_point_to_go_back_to_before_it_does_anything_else(tmp_path):
    run = TapedRun(tmp_path, is_lockstep=True).run()
    work = [call for _, call in run.calls if call[1] in ("save", "snapshot", "collect")]
    assert work[:3] == [("learner", "save"), ("learner", "snapshot"), ("collector", "collect")]


def test_lockstep_trains_only_while_nobody_collects(tmp_path):
    run = TapedRun(tmp_path, is_lockstep=True).run()
    verbs = [call[1] for _, call in run.calls if call[1] in ("collect", "insert", "train")]
    assert verbs[:8] == ["collect", "insert"] * 2 + ["collect", "insert", "train", "collect"]
    assert run.counts == ALL


def test_gradient_steps_wait_at_the_learner_up_to_the_limit(tmp_path):
    run = TapedRun(tmp_path, learner_calls_in_flight=2)
    run.seconds["collect"], run.seconds["train"] = 0.1, 1.0
    run.run()
    assert run.host.most_in_flight["learner", "train"] == 2


def test_a_learner_that_takes_seconds_a_step_gets_one_at_a_time(tmp_path):
    run = TapedRun(tmp_path, learner_calls_in_flight=4)
    run.seconds["collect"], run.seconds["train"] = 0.1, 3.0
    run.run()
    assert run.host.most_in_flight["learner", "train"] == 1


def test_chunks_are_handed_on_only_once_they_exist(tmp_path):
    """An insert that waits for its chunks would hold up the sampling of every later batch."""
    run = TapedRun(tmp_path).run()
    collects = [at for at, call in run.calls if call == ("collector", "collect")]
    inserts = [at for at, call in run.calls if call == ("replay", "insert")]
    assert all(i >= c + 1.0 for c, i in zip(collects, inserts, strict=True))


def test_one_collect_call_is_under_way_while_another_is_trained_on(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["train"] = 0.5
    run.run()
    assert run.host.most_in_flight["collector", "collect"] == 1
    trains = [at for at, call in run.calls if call == ("learner", "train")]
    assert any(
        begin <= at < begin + 1.0
        for at in trains
        for begin, call in run.calls
        if call == ("collector", "collect")
    )


def test_random_play_needs_no_weights_and_the_policy_waits_for_its_first(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["snapshot"] = 10.0
    run.run()
    collects = [at for at, call in run.calls if call == ("collector", "collect")]
    assert collects[1] < 5.0 and collects[2] > 10.0


def test_a_checkpoint_is_written_every_interval_and_at_the_end(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collect"] = 5.0
    run.run()
    assert run.ended_s > 36.0 and 3 <= run.number_of("learner", "save") <= 5


def test_no_second_checkpoint_is_begun_while_one_is_being_written(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collect"], run.seconds["save"] = 10.0, 40.0
    run.run()
    assert run.host.most_in_flight["learner", "save"] == 1


def test_a_checkpoint_that_a_full_disk_refuses_is_not_tried_without_pause(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collect"] = 5.0
    for number in range(1, 4):
        run.when("learner", "save", number, error(OSError(errno.ENOSPC, "No space left")))
    run.run()
    saves = [at for at, call in run.calls if call == ("learner", "save")]
    assert saves[1] - saves[0] > 11.0


def test_a_run_without_steps_left_saves_and_collects_nothing(tmp_path):
    TapedRun(tmp_path).run()
    again = TapedRun(tmp_path).run()
    assert again.number_of("collector", "collect") == 0 and again.counts == ALL


def test_a_stop_is_seen_within_a_moment_and_what_was_collected_is_stored(tmp_path):
    run = TapedRun(tmp_path)
    run.stops_at_s = 5.0
    run.run()
    assert 5.0 <= run.ended_s < 7.5
    assert run.counts[0] == 4 * run.number_of("collector", "collect")
    assert run.calls[-1][1][1] == "save"


def test_a_stop_gives_up_a_collect_call_that_takes_too_long(tmp_path):
    run = TapedRun(tmp_path)
    run.seconds["collector", "collect"] = 15.0
    run.stops_at_s = 16.0
    run.run()
    assert run.ended_s < 28.0 and run.counts[0] == 4


def test_in_lockstep_a_stop_amid_a_collect_call_leaves_the_newest_checkpoint(tmp_path):
    run = TapedRun(tmp_path, is_lockstep=True)
    run.seconds["collector", "collect"] = 15.0
    run.stops_at_s = 20.0
    run.run()
    saves = [at for at, call in run.calls if call == ("learner", "save")]
    assert max(saves) < 20.0, "one of the stop could not be resumed exactly"


def test_a_run_that_was_stopped_goes_on_to_the_same_counts(tmp_path):
    first = TapedRun(tmp_path)
    first.stops_at_s = 6.0
    first.run()
    assert first.counts < ALL
    assert TapedRun(tmp_path).run().counts == ALL


# Evaluation


def test_evaluators_begin_one_after_another_so_that_training_keeps_its_processors(tmp_path):
    run = TapedRun(tmp_path, evaluate_every=8, evaluators=3)
    run.seconds["collect"] = 4.0
    run.run()
    begun = [float(line.split()[0]) for line in run.host.tape if "start evaluator" in line]
    assert len(begun) >= 3 and begun[0] < begun[1] < begun[2]


@pytest.mark.parametrize("interval", [1000, 32, 1])
def test_the_last_evaluation_is_of_the_final_weights(tmp_path, interval):
    run = TapedRun(tmp_path, evaluate_every=interval)
    run.seconds["train"] = 10.0  # so that all is collected before all is trained
    run.run()
    told = [r for r in run.reports if r.service == "evaluator"]
    assert {r.labels["evaluator"] for r in told} == {"evaluator-0"}
    assert told[-1].values["dreamer_evaluation_gradient_steps"] == ALL[1]


@pytest.mark.parametrize("is_lockstep", [True, False])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_loss_amid_the_last_publishing_has_the_final_weights_published_again(
    tmp_path, is_lockstep, lost
):
    undisturbed = TapedRun(tmp_path / "a", is_lockstep=is_lockstep, evaluate_every=1000).run()
    last = undisturbed.number_of("learner", "snapshot")
    run = TapedRun(tmp_path / "b", is_lockstep=is_lockstep, evaluate_every=1000)
    for number in range(last, last + lost):
        run.when("learner", "snapshot", number, run.kill("learner"))
    assert run.run().counts == ALL
    told = [r.values for r in run.reports if r.service == "evaluator"]
    assert [values["dreamer_evaluation_gradient_steps"] for values in told] == [ALL[1]]


def test_nothing_is_played_where_the_last_publishing_fails_again_and_again(tmp_path, caplog):
    run = TapedRun(tmp_path, is_lockstep=True, evaluate_every=1000, has_state=False)
    for number in range(5, 8):
        run.when("learner", "snapshot", number, run.kill("learner"))
    assert run.run().counts == ALL
    assert run.number_of("evaluator-0", "evaluate") == 0
    assert "no weights to play with" in caplog.text


def test_a_run_that_was_done_is_not_evaluated_again(tmp_path):
    TapedRun(tmp_path, evaluate_every=1000).run()
    again = TapedRun(tmp_path, evaluate_every=1000).run()
    assert again.number_of("evaluator-0", "evaluate") == 0


def test_a_stop_gives_up_the_last_evaluation_once_the_run_is_saved(tmp_path):
    run = TapedRun(tmp_path, evaluate_every=1000)
    run.seconds["evaluate"] = 1000.0
    run.stops_at_s = 100.0
    run.run()
    assert run.counts == ALL and run.ended_s < 102.0


def test_nothing_waits_for_an_evaluation_when_a_run_is_stopped(tmp_path):
    run = TapedRun(tmp_path, evaluate_every=8)
    run.seconds["evaluate"] = 1000.0
    run.stops_at_s = 6.0
    run.run()
    assert run.ended_s < 9.0
    assert run.evaluations.clock.is_last_wanted(0), "what came to nothing was counted"


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_no_more_calls_are_under_way_than_allowed(tmp_path, is_lockstep):
    most = TapedRun(tmp_path, is_lockstep=is_lockstep).run().host.most_in_flight
    assert max(n for (service, verb), n in most.items() if verb in ("collect", "insert")) == 1


def test_speeds_of_a_run_that_goes_on_are_of_what_it_takes_from_there(tmp_path):
    first = TapedRun(tmp_path)
    first.stops_at_s = 4.0
    first.run()
    again = TapedRun(tmp_path).run()
    assert first.counts[0] > 8
    name = "dreamer_policy_steps_per_second"
    assert 0 < max(report.values.get(name, 0.0) for report in again.reports) <= 4  # a call a second
