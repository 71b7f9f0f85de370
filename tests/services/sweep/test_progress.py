"""How far the runs of a sweep have come."""

import time

from services.sweep.progress import ProgressReader, SweepProgress
from tests.services.sweep.parts import state


def test_a_sweep_adds_up_its_runs():
    progress = SweepProgress(
        (
            state(phase="done", policy_step=200),
            state(seed=1, policy_step=100, policy_steps_per_second=10.0),
            state(seed=2),
            state(seed=3, phase="waiting"),
            state(seed=4, phase="failed", policy_step=50),
        )
    )
    assert progress.share == 350 / 1000
    assert progress.policy_steps_per_second == 10.0
    assert progress.time_left_s == (100 + 200 + 200) / 10
    assert not progress.is_over and SweepProgress(progress.runs[:1]).is_over


def test_what_a_run_has_written_is_read_from_the_end_of_its_metrics(tmp_path, log):
    reader = ProgressReader(tmp_path / "pong_1")
    log(50, 3.0, 5.0, policy_steps_per_second=20.0)
    log(80, policy_steps_per_second=40.0)
    read = reader.read(state())
    assert (read.policy_step, read.mean_return, read.episodes) == (80, 4.0, 2)
    assert read.policy_steps_per_second == 40.0
    reader.begin()
    assert reader.read(read).policy_steps_per_second is None, "that was before it was resumed"
    log(90, 7.0, policy_steps_per_second=1.0)
    read = reader.read(read)
    assert (read.mean_return, read.policy_steps_per_second) == (5.0, 1.0)


def test_a_run_that_hangs_has_no_speed_any_more(tmp_path, log):
    now_s = [time.time()]
    reader = ProgressReader(tmp_path / "pong_1", clock_s=lambda: now_s[0])
    log(50, policy_steps_per_second=20.0)
    assert reader.read(state()).policy_steps_per_second == 20.0
    now_s[0] += 40
    read = reader.read(state())
    assert (read.policy_step, read.policy_steps_per_second) == (50, None)
    assert SweepProgress((read,)).time_left_s is None


def test_a_run_that_has_written_nothing_or_garbage_is_where_it_was(tmp_path):
    before = state(policy_step=7)
    assert ProgressReader(tmp_path).read(before) == before
    (tmp_path / "metrics.jsonl").write_text("garbage\n")
    assert ProgressReader(tmp_path).read(before) == before


def test_a_damaged_line_is_left_out_of_the_progress_and_told_once(tmp_path, log, caplog):
    log(10, 3.0)
    with (tmp_path / "pong_1" / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    log(20, 5.0)
    reader = ProgressReader(tmp_path / "pong_1")
    assert [reader.read(state()).policy_step for _ in range(3)] == [20] * 3
    assert len(caplog.records) == 1 and "pong 0 leaves out damaged lines" in caplog.text
