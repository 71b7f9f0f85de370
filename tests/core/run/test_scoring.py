"""Evaluations: when they fall due, and those of a run in one process."""

from dataclasses import replace

import pytest

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.config import EvaluationConfig
from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput
from dreamer_core.report.log import RunLog
from dreamer_core.report.read import METRICS_FILE, read_jsonl
from dreamer_core.report.report import EpisodeSummary
from dreamer_core.run import local, scoring
from dreamer_core.run.scoring import (
    EvaluationClock,
    evaluate_weights,
    evaluation_report,
    last_evaluated,
)
from tests.core.run.test_train_local import CATCH, STEPS, run
from tests.core.small import changed

EVERY = 20
EVALUATED = changed(CATCH, {"evaluation.interval_frames": EVERY, "evaluation.episodes": 2})


def evaluations(run_dir):
    lines = read_jsonl(run_dir / "metrics.jsonl")
    return [line for line in lines if line.service == "evaluator"]


def clock(**config):
    return EvaluationClock(EvaluationConfig(**config), frames_per_policy_step=4)


# When


def test_an_evaluation_falls_due_at_each_multiple_of_the_interval():
    it = clock(interval_frames=100)
    due = []
    for policy_steps in range(0, 100, 10):
        if it.is_due(policy_steps):
            due.append(policy_steps)
            it.evaluated(policy_steps)
    assert due == [30, 50, 80]  # the first at or after 25, 50, 75


def test_a_run_that_is_restarted_within_every_interval_is_evaluated_all_the_same():
    it = clock(interval_frames=100)
    it.evaluated(20)  # where it goes on
    assert not it.is_due(24)
    assert it.is_due(25)


def test_the_last_weights_are_evaluated_once_and_never_where_evaluation_is_off():
    it = clock(interval_frames=100)
    assert it.is_last_wanted(0)
    it.evaluated(50, version=12)
    assert it.is_last_wanted(13) and not it.is_last_wanted(12)
    it.gave_up()
    assert it.is_last_wanted(12)
    it = clock(interval_frames=None)
    assert not it.is_due(10**6) and not it.is_last_wanted(10**6)


def test_an_interval_shorter_than_a_policy_step_is_one_policy_step():
    assert clock(interval_frames=1).is_due(1)


# In one process


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return run(tmp_path_factory.mktemp("evaluated") / "run", EVALUATED)


def test_a_local_run_is_evaluated_by_the_protocol_and_at_its_end(evaluated):
    result, _ = evaluated
    lines = evaluations(result.run_dir)
    assert [line.evaluated_frame for line in lines] == [20, 40, 60, STEPS]
    for line in lines:
        assert line.labels["mode"] == "greedy" and len(line.episodes) == 2
        returns = [episode.episode_return for episode in line.episodes]
        assert line.values["dreamer_evaluation_return"] == pytest.approx(sum(returns) / 2)


def test_evaluation_changes_nothing_that_is_trained(evaluated, tmp_path):
    config = replace(EVALUATED, evaluation=EvaluationConfig(interval_frames=None))
    _, plain = run(tmp_path, config)
    assert evaluated[1].losses == plain.losses


def test_the_same_weights_at_the_same_step_play_the_same_episodes(evaluated, tmp_path):
    again, _ = run(tmp_path, EVALUATED)
    first, second = (evaluations(result.run_dir) for result in (evaluated[0], again))
    assert [line.episodes for line in first] == [line.episodes for line in second]


def test_an_evaluation_that_fails_is_a_warning_and_training_goes_on(tmp_path, monkeypatch, caplog):
    def fail(*_arguments, **_keywords):
        raise BadInput("there is only one such robot")

    monkeypatch.setattr(scoring, "evaluate_weights", fail)
    result, _ = run(tmp_path, EVALUATED)
    assert result.is_finished
    assert "Not evaluated at policy step 20: there is only one such robot" in caplog.text


def test_an_environment_of_another_kind_for_evaluation_is_refused():
    other = replace(environment_spec(CATCH.env), action_size=7)
    policy, weights = PolicyNetwork(EVALUATED, other), DreamerAgent(EVALUATED, other).snapshot()
    with pytest.raises(BadInput, match="of other sizes than before"):
        evaluate_weights(EVALUATED, other, policy, weights, policy_step=0, on_step=lambda _: None)


@pytest.mark.parametrize(
    ("stopped_at", "frames"), [(EVERY, [30, 40, 60, STEPS]), (STEPS, [20, 40, 60, STEPS])]
)
def test_an_evaluation_that_was_given_up_is_made_up_for(tmp_path, monkeypatch, stopped_at, frames):
    stops, play = [], scoring.evaluate_weights

    def stop_within(*arguments, policy_step, **keywords):
        if policy_step == stopped_at:
            stops.append(None)
        return play(*arguments, policy_step=policy_step, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate_weights", stop_within)
        local.train_local(EVALUATED, tmp_path, should_stop=lambda: bool(stops))
    assert stopped_at not in [line.evaluated_frame for line in evaluations(tmp_path)]
    for _ in range(2):  # and never twice
        local.train_local(EVALUATED, tmp_path)
        assert [line.evaluated_frame for line in evaluations(tmp_path)] == frames


def test_what_guests_played_is_no_evaluation_of_the_run(tmp_path):
    with RunLog(tmp_path, frames_per_policy_step=1) as log:
        for policy_step, labels in ((20, {}), (30, {"guest": True}), (50, {})):
            report = evaluation_report(
                [EpisodeSummary(policy_step=policy_step, episode_return=1.0, length=5)],
                policy_step // 10,
                "greedy",
                policy_step,
            )
            log.write(
                replace(report, labels={**report.labels, **labels}),
                policy_step=policy_step,
                gradient_step=3,
            )
    assert last_evaluated(tmp_path / METRICS_FILE, 100, 9) == (50, 5)
    assert last_evaluated(tmp_path / METRICS_FILE, 40, 9) == (20, 2)  # 50 was taken back
    assert last_evaluated(tmp_path / METRICS_FILE, 50, 4) == (20, 2)  # and so were those weights
    assert last_evaluated(tmp_path / "none", 100, 9) == (0, None)


def test_a_stop_gives_up_an_evaluation_under_way(tmp_path, monkeypatch):
    plays = []

    def play(*_arguments, on_step, **_keywords):
        plays.append(None)
        on_step(1)
        raise AssertionError("the episode went on")

    monkeypatch.setattr(scoring, "evaluate_weights", play)
    result = local.train_local(EVALUATED, tmp_path, should_stop=lambda: bool(plays))
    assert len(plays) == 1 and not result.is_finished and result.policy_steps == EVERY
