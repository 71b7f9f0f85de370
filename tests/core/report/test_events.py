"""What a run leaves for TensorBoard."""

import pytest

from dreamer_core.report.events import EventFile
from dreamer_core.report.log import RunLog
from dreamer_core.types import EpisodeSummary, Report
from tests.core.report.logs import KL, room_in, scalars, write_once


def test_tensorboard_shows_the_same_names_against_environment_frames(tmp_path):
    write_once(tmp_path)
    assert scalars(tmp_path, "dreamer_kl_nats") == [(400, 3.5)]


def test_tensorboard_shows_what_was_written_before_the_log_is_closed(tmp_path):
    log = RunLog(tmp_path, frames_per_policy_step=4)
    log.write(KL, policy_step=100, gradient_step=25)
    assert scalars(tmp_path, "dreamer_kl_nats") == [(400, 3.5)]
    log.close()
    log.close()


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
