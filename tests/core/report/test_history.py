"""What the log of a run comes to."""

import dataclasses

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.report.history import RunHistory, read_history
from tests.core.scores.examples import line, write_run


def with_values(policy_step, service="learner", weights=None, **values):
    labels = {} if weights is None else {"weights": weights}
    of_nothing = line(policy_step, service=service)
    return dataclasses.replace(of_nothing, values=values, labels=labels)


def taken(*lines):
    history = RunHistory()
    for each in lines:
        history.take(each)
    return history


def test_nothing_is_known_before_the_first_line():
    history = RunHistory()
    assert history.newest is None and history.values == {} and history.newest_evaluation == {}
    assert history.training.last() is None and history.evaluations.last() is None


def test_each_metric_has_its_newest_value_and_the_run_stands_at_the_newest_line():
    history = taken(with_values(10, a=1.0, b=2.0), with_values(20, a=3.0), with_values(15, c=4.0))
    assert history.values == {"a": 3.0, "b": 2.0, "c": 4.0}
    assert history.newest.policy_step == 15  # a run that went back stands where it is now


def test_an_evaluation_of_an_older_checkpoint_tells_nothing_of_the_run_as_it_is():
    now = with_values(20, "evaluator", weights="latest", dreamer_evaluation_return=1.0)
    older = with_values(30, "evaluator", weights="4", dreamer_evaluation_return=9.0)
    history = taken(now, older)
    assert history.newest == now and history.newest_evaluation == now.values


def test_a_metric_that_is_forgotten_is_known_again_from_the_next_line_that_tells_it():
    history = taken(with_values(10, a=1.0, b=2.0))
    history.forget("a")
    history.forget("never told")
    assert history.values == {"b": 2.0}
    history.take(with_values(20, a=5.0))
    assert history.values == {"a": 5.0, "b": 2.0}


def test_a_log_that_is_not_there_tells_nothing(tmp_path):
    assert read_history(tmp_path).newest is None


def test_a_damaged_line_is_told_and_left_out_or_refused_where_nobody_is_told(tmp_path):
    lines = [line(10, 1.0, service="collector"), line(20, 3.0, service="collector")]
    log = write_run(tmp_path / "run", lines) / "metrics.jsonl"
    first, second = log.read_text().splitlines(keepends=True)
    log.write_text(f"{first}no json\n{second}")
    damaged = []
    history = read_history(log.parent, damaged=damaged.append)
    assert history.training.last().mean == 2.0 and len(damaged) == 1
    with pytest.raises(BadInput, match=r"metrics\.jsonl:2 is not a metrics line"):
        read_history(log.parent)
