"""What the lines of a log add to the curves of a run, one that went back to its checkpoint too."""

import math

from dreamer_core.report.curves import _read_points
from dreamer_core.report.log import RunLog
from dreamer_core.report.read import Added, CurveLines, LogLine
from dreamer_core.report.report import EpisodeSummary, Report


def line(policy_step, service="learner", weights="latest", returns=None, **values):
    """A line of a run with action repeat 4; `returns` by the step at which each episode ended."""
    ended = tuple(
        EpisodeSummary(policy_step=step, episode_return=value, length=1)
        for step, value in (returns or {}).items()
    )
    return LogLine(
        wall_time_s=0.0,
        service=service,
        policy_step=policy_step,
        env_frame=4 * policy_step,
        gradient_step=1,
        values={f"dreamer_{name}": value for name, value in values.items()},
        episodes=ended,
        labels={"weights": weights},
    )


def test_each_curve_has_its_points_where_they_belong():
    added = CurveLines().take(line(10, returns={7: 1.0, 9: 2.0}, kl_nats=3.0))
    assert added == {"return": Added([(28, 1.0), (36, 2.0)], None), "kl": Added([(40, 3.0)], None)}


def test_an_evaluation_lies_where_its_weights_were_made_and_adds_no_training_episode():
    values = {"evaluation_return": 5.0, "evaluation_policy_steps": 8}
    added = CurveLines().take(line(10, "evaluator", returns={8: 5.0}, **values))
    assert added == {"evaluation": Added([(32, 5.0)], None)}


def test_what_is_not_finite_is_left_out():
    assert CurveLines().take(line(10, returns={9: math.inf}, kl_nats=math.nan)) == {}


def test_a_curve_that_went_back_replaces_what_it_had_from_there_on():
    curves = CurveLines()
    curves.take(line(20, kl_nats=1.0, image_mean_squared_error=1.0))
    assert curves.take(line(10, kl_nats=2.0))["kl"] == Added([(40, 2.0)], 40)
    assert curves.take(line(20, kl_nats=3.0))["kl"] == Added([(80, 3.0)], None)
    assert curves.take(line(15, image_mean_squared_error=4.0))["image_mse"].replaces_from == 60


def test_an_evaluation_of_an_old_checkpoint_replaces_nothing():
    curves = CurveLines()
    for weights in ("latest", "4"):
        curves.take(line(20, "evaluator", evaluation_return=1.0, weights=weights))
    old = curves.take(line(10, "evaluator", evaluation_return=1.0, weights="4"))
    assert old["evaluation"] == Added([(40, 1.0)], None)
    new = curves.take(line(10, "evaluator", evaluation_return=1.0))
    assert new["evaluation"] == Added([(40, 1.0)], 40)


def test_the_learning_curve_holds_what_a_run_that_went_back_reported_last(tmp_path):
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        for step in (10, 20, 30, 15):
            ended = EpisodeSummary(policy_step=step, episode_return=step, length=1)
            report = Report(
                service="local", episodes=(ended,), values={"dreamer_kl_nats": 100 / step}
            )
            log.write(report, policy_step=step, gradient_step=1)
    points = _read_points(tmp_path / "metrics.jsonl")
    assert points["return"] == [(40, 10), (60, 15)]
    assert [x for x, _ in points["kl"]] == [40, 60]
