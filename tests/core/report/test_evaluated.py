"""The last evaluations of a run, and its last training episodes: what a score is the mean of."""

import math

import pytest

from dreamer_core.report.evaluated import LastEvaluations, LastTraining, interval_of
from tests.core.scores.examples import line


def taken(*lines):
    evaluations = LastEvaluations()
    for each in lines:
        evaluations.take(each)
    return evaluations


def returns(last):
    return [each.episode_return for each in last.episodes]


def test_the_last_ten_of_twelve_are_the_score():
    evaluations = taken(*(line(10 * k, float(k)) for k in range(1, 13)))
    last = evaluations.last()
    assert returns(last) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12] and last.mean == 7.5
    assert last.frames == (120, 480) and interval_of(evaluations.frames()) == 40


def test_up_to_a_frame_later_evaluations_do_not_count_and_the_frame_itself_does():
    evaluations = taken(line(10, 1.0), line(20, 2.0), line(30, 3.0))
    assert returns(evaluations.last(at_frame=80)) == [1, 2]
    assert returns(evaluations.last(at_frame=79)) == [1]
    assert evaluations.last(at_frame=39) is None


def test_an_evaluation_belongs_to_the_frame_of_its_weights():
    last = taken(line(25, 1.0, made_at=20), line(30, 9.0, made_at=10)).last()
    assert [(each.env_frame, each.episode_return) for each in last.episodes] == [(40, 9), (80, 1)]


def test_training_older_checkpoints_and_infinite_returns_are_no_evaluations():
    evaluations = taken(
        line(10, 1.0),
        line(11, 7.0, service="collector"),
        line(12, 8.0, weights="4"),
        line(13, math.nan, math.inf, 2.0),
    )
    assert returns(evaluations.last()) == [1, 2]


def test_a_frame_that_is_evaluated_again_counts_once_with_the_later_line():
    assert returns(taken(line(10, 1.0), line(20, 2.0), line(20, 5.0)).last()) == [1, 5]


def test_evaluations_of_guests_are_none_of_the_run():
    evaluations = taken(line(10, 1.0), line(10, 7.0, guest=True), line(20, 8.0, guest=True))
    assert returns(evaluations.last()) == [1] and evaluations.reached_frame == 40


def test_all_evaluators_of_a_frame_count_and_each_counts_once():
    first, second = "evaluator-0", "evaluator-1"
    evaluations = taken(
        line(10, 1.0, evaluator=first),
        line(20, 4.0, evaluator=second),
        line(21, 2.0, made_at=10, evaluator=second),
        line(22, 3.0, made_at=20, evaluator=first),
        line(23, 5.0, made_at=20, evaluator=second),
    )
    assert returns(evaluations.last()) == [1, 2, 3, 5] and evaluations.modes == {"greedy": 4}
    assert evaluations.frames() == [40, 80] and interval_of(evaluations.frames()) == 40


def test_a_run_that_went_back_voids_the_evaluations_of_all_evaluators():
    before = [line(20, x, evaluator=f"evaluator-{k}") for k, x in enumerate([1.0, 2.0])]
    went_back = taken(*before, line(15, service="learner"), line(20, 9.0, evaluator="evaluator-0"))
    assert returns(went_back.last()) == [9]


def test_what_a_run_had_evaluated_beyond_where_it_went_back_to_is_void():
    before = [line(10, 1.0), line(20, 2.0), line(30, 3.0), line(40, 4.0)]
    resumed = taken(*before, line(25, service="learner"))
    assert returns(resumed.last()) == [1, 2], "nothing is evaluated again yet"
    resumed.take(line(29, 8.0))
    assert returns(resumed.last()) == [1, 2, 8] and resumed.reached_frame == 4 * 29


def test_a_run_that_went_back_evaluates_from_there_on_anew():
    went_back = taken(line(10, 1.0), line(20, 2.0), line(30, 3.0), line(21, 8.0, made_at=19))
    assert returns(went_back.last()) == [1, 8]
    went_back.take(line(30, 9.0))
    assert returns(went_back.last()) == [1, 8, 9]


def test_modes_are_never_mixed():
    evaluations = taken(line(10, 1.0), line(10, 5.0, 6.0, mode="sample"))
    assert evaluations.modes == {"greedy": 1, "sample": 2}
    assert returns(evaluations.last("greedy")) == [1]
    assert returns(evaluations.last("sample")) == [5, 6]


def test_a_run_without_evaluations_has_none():
    evaluations = taken(line(10, 1.0, service="collector"))
    assert evaluations.last() is None and evaluations.modes == {}
    assert interval_of(evaluations.frames()) == 0 and evaluations.reached_frame == 40


def test_training_episodes_count_once_and_up_to_a_frame():
    training = LastTraining()
    for each in (
        line(20, 1.0, made_at=10, service="collector"),
        line(30, 2.0, made_at=28, service="collector"),
        line(20, 99.0),
        line(30, 3.0, made_at=28, service="collector"),
    ):
        training.take(each)
    assert returns(training.last()) == [1, 3] and training.last(at_frame=100).mean == 1
    assert training.last(at_frame=39) is None


def test_training_episodes_beyond_where_a_run_went_back_to_are_void():
    training = LastTraining()
    training.take(line(20, 1.0, made_at=10, service="collector"))
    training.take(line(40, 2.0, made_at=35, service="collector"))
    training.take(line(21, service="learner"))
    assert returns(training.last()) == [1]


def ended(*policy_steps, keep):
    training = LastTraining(keep=keep)
    for step in policy_steps:
        training.take(line(step, float(step), service="collector"))
    return training


def test_a_live_reader_keeps_no_more_than_the_newest_episodes():
    assert returns(ended(1, 2, 3, 4, 5, keep=2).last()) == [4, 5]
    followed = ended(*range(1, 9), keep=2)
    followed.take(line(7, service="learner"))
    assert returns(followed.last()) == [7], "6 is not kept"


def test_a_reader_that_keeps_few_is_not_asked_for_an_earlier_frame():
    with pytest.raises(ValueError, match="keep all with keep=None"):
        ended(1, 2, 3, keep=2).last(at_frame=4)
    with pytest.raises(ValueError, match="keep=0: wanted 1 or more"):
        LastTraining(keep=0)
