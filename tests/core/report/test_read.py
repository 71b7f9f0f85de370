"""The reader of the log: each line once, also of a file that grows, is torn or is replaced."""

import os
import re
import subprocess
import sys

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.report.log import RunLog
from dreamer_core.report.metrics import is_of_newest_weights
from dreamer_core.report.read import LogReader, read_jsonl
from dreamer_core.report.report import Report
from tests.core.report.logs import KL, write_once


@pytest.fixture
def log(tmp_path):
    """Its path, and what writes a line to it."""
    with RunLog(tmp_path, frames_per_policy_step=4) as run_log:
        yield run_log


def write(log, *policy_steps):
    for step in policy_steps:
        log.write(KL, policy_step=step, gradient_step=1)


def steps(reader):
    return [line.policy_step for line in reader.read_on()]


def test_each_line_is_read_once(log):
    reader = LogReader(log.path)
    assert steps(reader) == []
    write(log, 1, 2)
    assert steps(reader) == [1, 2]
    write(log, 3)
    assert steps(reader) == [3] and steps(reader) == []


def test_a_file_that_is_not_there_yet_is_read_when_it_is(tmp_path):
    reader = LogReader(tmp_path / "metrics.jsonl")
    assert steps(reader) == []
    write_once(tmp_path, policy_step=7)
    assert steps(reader) == [7]


def test_a_torn_line_is_left_until_it_is_whole(log):
    write(log, 1, 2)
    whole, reader = log.path.read_bytes(), LogReader(log.path)
    log.path.write_bytes(whole[:-5])
    assert steps(reader) == [1]
    log.path.write_bytes(whole)
    assert steps(reader) == [2]


def test_a_reader_that_stops_half_way_goes_on_there(log):
    write(log, 1, 2)
    reader = LogReader(log.path)
    assert next(reader.read_on()).policy_step == 1
    assert steps(reader) == [2]


def test_a_file_in_place_of_the_one_before_is_begun_anew(tmp_path):
    told = []
    reader = LogReader(write_once(tmp_path), begun_anew=lambda: told.append("anew"))
    assert steps(reader) == [100] and steps(reader) == []
    assert told == ["anew"]
    (tmp_path / "metrics.jsonl").rename(tmp_path / "before.jsonl")
    write_once(tmp_path, policy_step=5)
    assert steps(reader) == [5] and told == ["anew"] * 2


def test_a_file_that_was_shortened_is_begun_anew(log):
    write(log, 1)
    size = log.path.stat().st_size
    write(log, 2)
    reader = LogReader(log.path)
    assert steps(reader) == [1, 2]
    os.truncate(log.path, size)
    assert steps(reader) == [1]


def test_of_a_long_file_only_the_end_is_read_and_then_all_that_follows(log):
    write(log, *range(1000))
    reader = LogReader(log.path, tail_bytes=1000)
    first = steps(reader)
    assert 1 < len(first) < 10 and first[-1] == 999
    write(log, *range(1000, 1100))
    assert steps(reader) == list(range(1000, 1100))


def test_damage_is_told_and_left_out(log):
    told = []
    write(log, 1)
    with log.path.open("a") as file:
        file.write("garbage\n[]\n")
    write(log, 2)
    assert steps(LogReader(log.path, damaged=told.append)) == [1, 2]
    assert [words.split(" ")[0].split(".jsonl")[1] for words in told] == [":2", ":3"]


def test_damage_behind_lines_that_were_not_counted_is_told_by_its_byte(log):
    write(log, *range(100))
    with log.path.open("a") as file:
        file.write("garbage\n")
    end = log.path.stat().st_size
    with pytest.raises(BadInput, match=rf"metrics\.jsonl:before byte {end} is not"):
        read_jsonl(log.path, tail_bytes=500)


def test_an_evaluation_belongs_to_the_frame_at_which_its_weights_were_made(tmp_path):
    labels = {"mode": "greedy", "weights": "5"}
    values = {"dreamer_evaluation_return": 3.0, "dreamer_evaluation_policy_steps": 20.0}
    report = Report(service="evaluator", values=values, labels=labels)
    (line,) = read_jsonl(write_once(tmp_path, report))
    assert (line.env_frame, line.evaluated_frame) == (400, 80)
    assert not is_of_newest_weights(line) and is_of_newest_weights(KL)


def test_a_damaged_line_in_the_middle_is_refused_by_its_number(tmp_path):
    path = write_once(tmp_path)
    path.write_text(path.read_text() + '{"half": \n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2 is not a metrics line"):
        read_jsonl(path)


def test_labels_that_are_no_object_are_damage(tmp_path):
    path = write_once(tmp_path)
    path.write_text(re.sub(r'"labels": \{[^}]*\}', '"labels": null', path.read_text()))
    with pytest.raises(BadInput, match="labels must be an object"):
        read_jsonl(path)


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_jsonl(tmp_path / "metrics.jsonl") == []


def test_who_reads_a_log_loads_neither_tensorboard_nor_torch_nor_pictures():
    heavy = ("tensorboard", "torch", "matplotlib", "cv2", "PIL", "ray")
    code = f"import sys, dreamer_core.report.read; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
