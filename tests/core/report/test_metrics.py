"""The metric table, and what a report may say."""

import re

import pytest

from dreamer_core.report.metrics import METRICS, checked_values, observations
from dreamer_core.report.read import read_jsonl
from dreamer_core.types import EpisodeSummary, Report
from tests.core.report.logs import write_once


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


def test_observations_are_the_mean_unless_single_ones_came(tmp_path):
    name = "dreamer_gradient_step_seconds"
    single = {name: (0.1, 0.3)}
    assert observations(Report(service="learner", values={name: 0.2}), name) == (0.2,)
    with_single = Report(service="learner", values={name: 0.2}, observations=single)
    assert observations(with_single, name) == (0.1, 0.3)
    (line,) = read_jsonl(write_once(tmp_path, with_single))
    assert (line.values, line.labels) == ({name: 0.2}, {})
