"""What a run leaves of its reports in metrics.jsonl."""

import json
import logging
import math

import pytest

from dreamer_core.report.log import RunLog
from dreamer_core.report.read import read_jsonl
from dreamer_core.report.report import EpisodeSummary, Report
from tests.core.report.logs import KL, room_in, write_once


def test_what_is_written_is_read_back(tmp_path):
    episode = EpisodeSummary(policy_step=90, episode_return=-20.0, length=45)
    report = Report(
        service="collector", values={"dreamer_policy_steps_total": 100}, episodes=(episode,)
    )

    (line,) = read_jsonl(write_once(tmp_path, report))

    assert (line.service, line.policy_step, line.gradient_step) == ("collector", 100, 25)
    assert (line.env_frame, line.frames_per_policy_step) == (400, 4.0)
    assert line.values["dreamer_policy_steps_total"] == 100
    assert line.values["dreamer_episode_return"] == -20.0
    assert line.episodes == (episode,)


def test_a_line_is_on_disk_before_the_log_is_closed(tmp_path):
    log = RunLog(tmp_path, frames_per_policy_step=4)
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


def test_a_typo_in_a_name_is_refused_with_the_name_that_was_meant(tmp_path):
    typo = Report(service="learner", values={"dreamer_kl_nats": 1.0, "dreamer_kl_nat": 1.0})
    with pytest.raises(KeyError, match="did you mean dreamer_kl_nats"):
        write_once(tmp_path, typo)
    assert read_jsonl(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("num_bytes", [0, 10])
def test_a_line_that_fits_in_part_is_left_out_in_whole(tmp_path, num_bytes):
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        log.write(KL, policy_step=100, gradient_step=25)
        with room_in(log.path, num_bytes):
            log.write(KL, policy_step=200, gradient_step=50)
        log.write(KL, policy_step=300, gradient_step=75)
    assert log.dropped_reports == 1
    assert [line.policy_step for line in read_jsonl(log.path)] == [100, 300]
