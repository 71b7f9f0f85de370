"""Curves of a run: true to the file, small however long it is, and read only once."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from dreamer_core.report.log import RunLog
from dreamer_core.report.report import EpisodeSummary, Report
from services.watch.curves import MAX_POINTS, RunCurves, ThinnedCurve


def write(run_dir, steps, service="learner", name="dreamer_kl_nats", weights="latest"):
    with RunLog(run_dir, frames_per_policy_step=4) as log:
        for step in steps:
            labels = {"mode": "greedy", "weights": weights}
            report = Report(service=service, values={name: step / 2}, labels=labels)
            log.write(report, policy_step=step, gradient_step=step)


@pytest.fixture
def curves(tmp_path):
    return RunCurves(tmp_path / "metrics.jsonl")


def test_a_short_curve_is_what_was_put_in():
    curve = ThinnedCurve()
    for x in range(MAX_POINTS - 1):
        curve.add(x, x * x)
    assert curve.points() == [(x, x * x) for x in range(MAX_POINTS - 1)]


def test_a_long_curve_stays_small_in_order_and_ends_with_its_newest_point():
    curve = ThinnedCurve()
    for x in range(100_000):
        curve.add(x, 2 * x)
    points = curve.points()
    assert MAX_POINTS / 2 <= len(points) <= MAX_POINTS
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert all(y == 2 * x for x, y in points)
    assert points[-1][0] > 99_000


def test_a_run_without_reports_has_no_curves(curves):
    found = curves.read_on()
    assert found["curves"] == {} and found["reported_s"] is None


def test_what_the_run_wrote_since_is_added_at_its_frame(tmp_path, curves):
    write(tmp_path, [1, 2])
    curves.read_on()
    write(tmp_path, [3])
    curves.read_on()
    found = curves.read_on()
    assert found["curves"]["kl"] == [(4, 0.5), (8, 1.0), (12, 1.5)]
    assert found["env_frame"] == 12 and found["values"]["dreamer_kl_nats"] == 1.5


def episodes(service, *returns):
    """A report of episodes, as trained on or as evaluated."""
    ended = tuple(
        EpisodeSummary(policy_step=step, episode_return=x, length=1)
        for step, x in enumerate(returns)
    )
    return Report(service=service, episodes=ended, labels={"mode": "greedy", "weights": "latest"})


def test_the_score_is_that_of_the_evaluations_or_else_of_training(tmp_path, curves):
    assert curves.read_on()["score"] is None
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        log.write(episodes("collector", *[100.0] * 5, *[1.0] * 20), policy_step=30, gradient_step=1)
        trained = curves.read_on()["score"]
        log.write(episodes("evaluator", 7.0, 8.0), policy_step=30, gradient_step=1)
    assert trained == {"mean": 1.0, "episodes": 20, "played": "training"}
    score = curves.read_on()["score"]
    assert score == {"mean": 7.5, "episodes": 2, "played": "greedy evaluation"}


def test_the_time_that_a_run_was_stopped_is_none_that_it_was_trained(tmp_path, curves, monkeypatch):
    for now_s in (1000.0, 1300.0, 1290.0, 9000.0, 9060.0):  # a clock was set back, a night went by
        monkeypatch.setattr("dreamer_core.report.scalars.time.time", lambda now_s=now_s: now_s)
        write(tmp_path, [1])
    assert curves.read_on()["trained_s"] == 360.0


def test_returns_of_training_and_of_evaluation_are_curves_of_their_own(tmp_path, curves):
    write(tmp_path, [10], "evaluator", "dreamer_evaluation_return")
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        ended = [EpisodeSummary(policy_step=s, episode_return=s / 10, length=3) for s in (10, 20)]
        log.write(
            Report(service="collector", episodes=tuple(ended)), policy_step=25, gradient_step=1
        )
    found = curves.read_on()["curves"]
    assert found["evaluation"] == [(40, 5.0)]
    assert found["return"] == [(40, 1.0), (80, 2.0)]
    assert found["mean_return"] == [(40, 1.0), (80, 1.5)]


def test_an_evaluation_of_an_old_checkpoint_is_no_point_of_today(tmp_path, curves):
    write(tmp_path, [10], "evaluator", "dreamer_evaluation_return")
    write(tmp_path, [20], "evaluator", "dreamer_evaluation_return", weights="4")
    found = curves.read_on()
    assert found["curves"]["evaluation"] == [(40, 5.0)]
    assert found["values"]["dreamer_evaluation_return"] == 5.0


def test_a_line_is_taken_when_it_is_whole_and_a_foreign_one_is_left_out(tmp_path, curves):
    write(tmp_path, [1, 2])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    found = curves.read_on()
    assert len(found["curves"]["kl"]) == 1
    path.write_bytes(whole + b"no metrics\n")
    found = curves.read_on()
    assert len(found["curves"]["kl"]) == 2


def test_nothing_that_json_cannot_hold_is_served(tmp_path, curves):
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        values = {"dreamer_kl_nats": float("nan")}
        log.write(Report(service="learner", values=values), policy_step=1, gradient_step=1)
    found = curves.read_on()
    assert json.loads(json.dumps(found, allow_nan=False))["curves"] == {}


@pytest.mark.parametrize("steps", [[5], range(5, 15)], ids=["shorter", "longer"])
def test_a_file_in_place_of_the_one_before_is_read_from_its_beginning(tmp_path, curves, steps):
    write(tmp_path, [1, 2, 3])
    curves.read_on()
    (tmp_path / "metrics.jsonl").rename(tmp_path / "before.jsonl")
    write(tmp_path, steps)
    assert curves.read_on()["curves"] == {"kl": [(4 * step, step / 2) for step in steps]}


def test_a_file_that_was_shortened_is_read_from_its_beginning(tmp_path, curves):
    write(tmp_path, [1, 2, 3])
    curves.read_on()
    path = tmp_path / "metrics.jsonl"
    os.truncate(path, len(path.read_bytes().splitlines(keepends=True)[0]))
    assert curves.read_on()["curves"]["kl"] == [(4, 0.5)]


def test_a_run_that_went_back_takes_the_place_of_what_it_had_reported(tmp_path, curves):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [1, 4], "evaluator", "dreamer_evaluation_return")
    write(tmp_path, [3, 5])
    found = curves.read_on()["curves"]
    assert found["kl"] == [(4, 0.5), (8, 1.0), (12, 1.5), (20, 2.5)]
    assert found["evaluation"] == [(4, 0.5), (16, 2.0)]  # the evaluator has not gone back


def write_episodes(run_dir, policy_step, returns):
    ended = tuple(
        EpisodeSummary(policy_step=step, episode_return=value, length=3)
        for step, value in returns.items()
    )
    with RunLog(run_dir, frames_per_policy_step=4) as log:
        report = Report(service="collector", episodes=ended)
        log.write(report, policy_step=policy_step, gradient_step=1)


def test_episodes_that_a_run_went_back_behind_are_no_part_of_the_running_mean(tmp_path, curves):
    write_episodes(tmp_path, 40, {10: 1.0, 20: 2.0, 30: 9.0})
    write_episodes(tmp_path, 30, {25: 3.0, 22: 4.0})
    found = curves.read_on()["curves"]
    assert found["return"] == [(40, 1.0), (80, 2.0), (100, 3.0), (88, 4.0)]
    assert found["mean_return"] == [(40, 1.0), (80, 1.5), (100, 2.0), (88, 2.5)]


def test_a_long_curve_stays_in_order_when_it_goes_back():
    curve = ThinnedCurve()
    for x in range(2501):
        curve.add(x, x)
    curve.drop_from(1000)
    assert curve.points()[-1][0] < 1000
    curve.add(1000, 1000)
    xs = [x for x, _ in curve.points()]
    assert xs == sorted(xs) and xs[-1] == 1000


def test_threads_that_read_at_once_take_each_line_once(tmp_path, curves):
    write(tmp_path, range(3000))
    with ThreadPoolExecutor(8) as threads:
        for reading in [threads.submit(curves.read_on) for _ in range(8)]:
            reading.result()
    assert curves.read_on() == RunCurves(tmp_path / "metrics.jsonl").read_on()
