"""Files are whole or not there, and locks say who holds them."""

import json
import os
import subprocess
import sys

import pytest

from dreamer_core.files import (
    InUse,
    lock_holder,
    make_directory,
    take_lock,
    temporary_of,
    wait_for_lock,
    whole_file,
    write_json,
    write_whole,
)

HOLD = """
import sys
from pathlib import Path
from dreamer_core.files import take_lock
with take_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def write_half(path):
    with whole_file(path) as file:
        file.write(b"n")
        raise OSError("the disk is full")


def test_a_file_is_made_and_replaced_without_a_trace_of_the_temporary_one(tmp_path):
    path = tmp_path / "config.json"
    for content in (b"old", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content and names(tmp_path) == ["config.json"]


def test_until_the_block_ends_readers_see_what_was_there_before(tmp_path):
    path = tmp_path / "config.json"
    write_whole(path, b"old")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["config.json", "config.json.tmp"]
    assert path.read_bytes() == b"new"


def test_an_error_of_the_disk_leaves_what_was_there_and_no_temporary_file(tmp_path):
    path = tmp_path / "config.json"
    write_whole(path, b"old")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["config.json"]


def test_what_a_kill_left_half_written_is_written_over(tmp_path):
    path = tmp_path / "config.json"
    temporary_of(path).write_bytes(b"a long torn begin")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["config.json"]


def test_the_temporary_name_may_be_chosen(tmp_path):
    path, temporary = tmp_path / "LATEST", tmp_path / ".temporary-LATEST"
    with whole_file(path, temporary):
        assert names(tmp_path) == [temporary.name]
    assert names(tmp_path) == ["LATEST"]


def test_a_directory_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "file", b"")


def test_json_is_for_people_too_and_reads_back(tmp_path):
    write_json(tmp_path / "value.json", {"name": [1, None]})
    text = (tmp_path / "value.json").read_text()
    assert json.loads(text) == {"name": [1, None]} and text.endswith("}\n")


def test_a_value_that_json_does_not_know_leaves_the_file_alone(tmp_path):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", object())
    assert (tmp_path / "value.json").read_text() == "1\n" and names(tmp_path) == ["value.json"]


def test_a_directory_is_made_with_those_above_it_and_may_be_there(tmp_path):
    for _ in range(2):
        make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_every_new_name_on_the_way_to_a_directory_is_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
    make_directory(tmp_path / "a" / "b")
    assert sorted(flushed) == sorted(path.stat().st_ino for path in (tmp_path, tmp_path / "a"))


def test_a_lock_names_its_holder_until_it_is_closed(tmp_path):
    path = tmp_path / "run.lock"
    assert lock_holder(path) is None
    with take_lock(path):
        assert lock_holder(path) == f"process {os.getpid()} on {os.uname().nodename}"
    assert lock_holder(path) is None


def test_a_lock_that_another_process_holds_is_refused_with_its_name(tmp_path):
    path = tmp_path / "run.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(InUse, match=f"process {process.pid} on "):
            take_lock(path)
        assert str(process.pid) in (lock_holder(path) or "")
        process.communicate()
    take_lock(path).close()


def test_a_lock_whose_holder_left_its_name_and_died_is_taken_over(tmp_path):
    path = tmp_path / "run.lock"
    path.write_text("process 1 with a long name on elsewhere\n")
    with take_lock(path):
        assert path.read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"


def test_a_directory_is_locked_as_a_file_is(tmp_path):
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    wait_for_lock(first, patience_s=0.0)
    with pytest.raises(BlockingIOError):
        wait_for_lock(second, patience_s=0.0)
    os.close(first)
    wait_for_lock(second, patience_s=0.0)
    os.close(second)
