"""The metric table, and what a report may say."""

import json
import math
import re

import pytest

from dreamer_core.report.metrics import METRICS, checked_values, info_series, observations
from dreamer_core.report.read import read_jsonl
from dreamer_core.report.report import EpisodeSummary, Report
from tests.core.report.logs import scalars, write_once


def test_names_follow_the_conventions_of_prometheus():
    for name, metric in METRICS.items():
        assert re.fullmatch(r"dreamer_[a-z_]+[a-z]", name), name
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert (metric.buckets == ()) == (metric.kind != "histogram"), name
        assert list(metric.buckets) == sorted(metric.buckets), name
        assert metric.help.endswith("."), name


def test_a_name_unlike_any_other_is_refused_with_all_names():
    with pytest.raises(KeyError, match=r"known are.*dreamer_actor_loss"):
        checked_values(Report(service="learner", values={"xyz": 1.0}))


def test_a_metric_with_labels_is_refused_without_them():
    with pytest.raises(KeyError, match=r"without the labels \['mode', 'weights'\]"):
        checked_values(Report(service="evaluator", values={"dreamer_evaluation_return": 1.0}))


def test_episodes_of_the_evaluator_are_no_training_episodes():
    episode = EpisodeSummary(policy_step=1, episode_return=5.0, length=9)
    assert checked_values(Report(service="evaluator", episodes=(episode,))) == {}
    assert checked_values(Report(service="collector", episodes=(episode,))) == {
        "dreamer_episode_return": 5.0,
        "dreamer_episode_length_policy_steps": 9,
    }


def told(**info):
    return EpisodeSummary(policy_step=1, episode_return=5.0, length=9, info=info)


def test_what_episodes_tell_is_a_series_a_key_of_the_newest_or_a_mean():
    episodes = (told(success=1.0), told(success=0.0, distance=3.0))
    training = info_series(Report(service="collector", episodes=episodes))
    assert training == {
        ("dreamer_episode_info", ("success",)): 0.0,
        ("dreamer_episode_info", ("distance",)): 3.0,
    }
    labels = {"mode": "greedy", "weights": "latest"}
    evaluation = info_series(Report(service="evaluator", episodes=episodes, labels=labels))
    assert evaluation == {
        ("dreamer_evaluation_info", ("greedy", "latest", "success")): 0.5,
        ("dreamer_evaluation_info", ("greedy", "latest", "distance")): 3.0,
    }


def test_without_such_keys_there_are_no_series():
    for service in ("collector", "evaluator"):
        assert info_series(Report(service=service, episodes=(told(),))) == {}
        assert info_series(Report(service=service)) == {}


def test_the_log_holds_what_an_episode_told_and_nothing_where_it_told_nothing(tmp_path):
    path = write_once(
        tmp_path, Report(service="collector", episodes=(told(), told(x=float("nan"))))
    )
    first, second = json.loads(path.read_text())["episodes"]
    assert "info" not in first and second["info"] == {"x": None}
    (line,) = read_jsonl(path)
    assert line.episodes[0].info == {} and math.isnan(line.episodes[1].info["x"])


def test_tensorboard_shows_each_key_at_its_episodes_own_frame(tmp_path):
    write_once(tmp_path, Report(service="collector", episodes=(told(x=2.0),)))
    assert scalars(tmp_path, "episode/info/x") == [(4, 2.0)]
    labels = {"mode": "greedy", "weights": "latest"}
    write_once(tmp_path, Report(service="evaluator", episodes=(told(x=3.0),), labels=labels))
    assert scalars(tmp_path, "evaluation/info/greedy/latest/x") == [(400, 3.0)]


def test_observations_are_the_mean_unless_single_ones_came(tmp_path):
    name = "dreamer_gradient_step_seconds"
    single = {name: (0.1, 0.3)}
    assert observations(Report(service="learner", values={name: 0.2}), name) == (0.2,)
    with_single = Report(service="learner", values={name: 0.2}, observations=single)
    assert observations(with_single, name) == (0.1, 0.3)
    (line,) = read_jsonl(write_once(tmp_path, with_single))
    assert (line.values, line.labels) == ({name: 0.2}, {})
