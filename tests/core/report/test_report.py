"""The metric table, and what a run leaves in metrics.jsonl and TensorBoard."""

import contextlib
import json
import logging
import math
import re
import resource

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer_core.report.events import EventFile
from dreamer_core.report.log import RunLog
from dreamer_core.report.metrics import (
    METRICS,
    checked_values,
    is_of_newest_weights,
    observations,
)
from dreamer_core.report.read import read_jsonl
from dreamer_core.types import EpisodeSummary, Report

KL = Report(service="learner", values={"dreamer_kl_nats": 3.5})


def write_once(run_dir, report=KL, policy_step=100, gradient_step=25):
    with RunLog(run_dir, action_repeat=4) as log:
        log.write(report, policy_step=policy_step, gradient_step=gradient_step)
    return run_dir / "metrics.jsonl"


def scalars(run_dir, tag):
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_names_follow_the_conventions_of_prometheus():
    for name, metric in METRICS.items():
        assert re.fullmatch(r"dreamer_[a-z_]+[a-z]", name), name
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert (metric.buckets == ()) == (metric.kind != "histogram"), name
        assert list(metric.buckets) == sorted(metric.buckets), name
        assert metric.help.endswith("."), name


def test_what_is_written_is_read_back(tmp_path):
    episode = EpisodeSummary(policy_step=90, episode_return=-20.0, length=45)
    report = Report(
        service="collector", values={"dreamer_policy_steps_total": 100}, episodes=(episode,)
    )

    (line,) = read_jsonl(write_once(tmp_path, report))

    assert (line.service, line.policy_step, line.gradient_step) == ("collector", 100, 25)
    assert (line.env_frame, line.action_repeat) == (400, 4.0)
    assert line.values["dreamer_policy_steps_total"] == 100
    assert line.values["dreamer_episode_return"] == -20.0
    assert line.episodes == (episode,)


def test_an_evaluation_belongs_to_the_frame_at_which_its_weights_were_made(tmp_path):
    labels = {"mode": "greedy", "weights": "5"}
    values = {"dreamer_evaluation_return": 3.0, "dreamer_evaluation_policy_steps": 20.0}
    report = Report(service="evaluator", values=values, labels=labels)
    (line,) = read_jsonl(write_once(tmp_path, report))
    assert (line.env_frame, line.evaluated_frame) == (400, 80)
    assert not is_of_newest_weights(line) and is_of_newest_weights(KL)


def test_a_line_is_on_disk_before_the_log_is_closed(tmp_path):
    log = RunLog(tmp_path, action_repeat=4)
    log.write(KL, policy_step=1, gradient_step=1)
    assert len(read_jsonl(log.path)) == 1
    log.close()
    log.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_stays_valid_json(tmp_path, value):
    episode = EpisodeSummary(policy_step=1, episode_return=value, length=1)
    report = Report(service="learner", values={"dreamer_kl_nats": value}, episodes=(episode,))

    path = write_once(tmp_path, report)

    strict = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert strict["values"]["dreamer_kl_nats"] is None
    (line,) = read_jsonl(path)
    assert math.isnan(line.values["dreamer_kl_nats"])
    assert math.isnan(line.episodes[0].episode_return)


def test_a_second_log_continues_the_first(tmp_path):
    write_once(tmp_path, policy_step=100)
    path = write_once(tmp_path, policy_step=200)
    assert [line.policy_step for line in read_jsonl(path)] == [100, 200]


def test_a_line_torn_by_a_kill_is_cut_and_the_rest_kept(tmp_path, caplog):
    path = write_once(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])

    assert len(read_jsonl(path)) == 1  # readers leave it out
    with caplog.at_level(logging.WARNING):
        write_once(tmp_path, policy_step=200)

    assert [line.policy_step for line in read_jsonl(path)] == [100, 200]
    assert f"torn last line of {len(whole) // 2} bytes" in caplog.text


@pytest.mark.parametrize("size", [1, 65_536, 200_000])
def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path, size):
    (tmp_path / "metrics.jsonl").write_bytes(b"x" * size)
    assert len(read_jsonl(write_once(tmp_path))) == 1


def test_a_torn_line_longer_than_one_block_is_cut(tmp_path):
    path = write_once(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0" * 150_000)
    assert len(read_jsonl(write_once(tmp_path))) == 2


def test_a_damaged_line_in_the_middle_is_refused_by_its_number(tmp_path):
    path = write_once(tmp_path)
    path.write_text(path.read_text() + '{"half": \n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2 is not a metrics line"):
        read_jsonl(path)


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_jsonl(tmp_path / "metrics.jsonl") == []


def test_a_typo_in_a_name_is_refused_with_the_name_that_was_meant(tmp_path):
    typo = Report(service="learner", values={"dreamer_kl_nats": 1.0, "dreamer_kl_nat": 1.0})
    with pytest.raises(KeyError, match="did you mean dreamer_kl_nats"):
        write_once(tmp_path, typo)
    assert read_jsonl(tmp_path / "metrics.jsonl") == []


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


def test_tensorboard_shows_the_same_names_against_environment_frames(tmp_path):
    write_once(tmp_path)
    assert scalars(tmp_path, "dreamer_kl_nats") == [(400, 3.5)]


def test_tensorboard_shows_what_was_written_before_the_log_is_closed(tmp_path):
    log = RunLog(tmp_path, action_repeat=4)
    log.write(KL, policy_step=100, gradient_step=25)
    assert scalars(tmp_path, "dreamer_kl_nats") == [(400, 3.5)]
    log.close()
    log.close()


@contextlib.contextmanager
def room_in(path, num_bytes):
    """Lets a file grow by so much while the block runs: what is too long is written in part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("num_bytes", [0, 10])
def test_a_line_that_fits_in_part_is_left_out_in_whole(tmp_path, num_bytes):
    with RunLog(tmp_path, action_repeat=4) as log:
        log.write(KL, policy_step=100, gradient_step=25)
        with room_in(log.path, num_bytes):
            log.write(KL, policy_step=200, gradient_step=50)
        log.write(KL, policy_step=300, gradient_step=75)
    assert log.dropped_reports == 1
    assert [line.policy_step for line in read_jsonl(log.path)] == [100, 300]


@pytest.mark.parametrize("num_bytes", [0, 10])
def test_an_event_that_fits_in_part_is_left_out_in_whole(tmp_path, num_bytes):
    events = EventFile(tmp_path / "tensorboard")
    events.add(400, 1.0, {"dreamer_kl_nats": 3.5})
    (path,) = (tmp_path / "tensorboard").iterdir()
    with room_in(path, num_bytes), pytest.raises(OSError, match="too large"):
        events.add(800, 2.0, {"dreamer_kl_nats": 3.5})
    events.add(1200, 3.0, {"dreamer_kl_nats": 3.5})
    events.close()
    assert scalars(tmp_path, "dreamer_kl_nats") == [(400, 3.5), (1200, 3.5)]


def test_tensorboard_shows_each_episode_where_it_ended(tmp_path):
    ends = [EpisodeSummary(policy_step=step, episode_return=step, length=10) for step in (10, 20)]
    write_once(tmp_path, Report(service="collector", episodes=tuple(ends)))
    assert scalars(tmp_path, "dreamer_episode_return") == [(40, 10.0), (80, 20.0)]


def test_tensorboard_tells_labelled_series_apart(tmp_path):
    for mode, value in {"greedy": 2.0, "sample": 1.0}.items():
        values = {"dreamer_evaluation_return": value}
        labels = {"mode": mode, "weights": "latest"}
        write_once(tmp_path, Report(service="evaluator", values=values, labels=labels))
    assert scalars(tmp_path, "dreamer_evaluation_return/greedy/latest") == [(400, 2.0)]
    assert scalars(tmp_path, "dreamer_evaluation_return/sample/latest") == [(400, 1.0)]
