"""The run directory: one run each, one process at a time, and a refusal changes nothing."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from dreamer_core.presets import preset
from dreamer_core.storage.run_directory import (
    RunDirectoryError,
    default_run_dir,
    open_run,
    read_config,
)
from tests.core.small import changed

CONFIG = preset("debug")
HOLD = """
import sys
from pathlib import Path
from dreamer_core.presets import preset
from dreamer_core.storage.run_directory import open_run
with open_run(Path(sys.argv[1]), preset("debug")):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_run(root, config=CONFIG):
    """Makes a run with something in it, and leaves it."""
    with open_run(root, config) as paths:
        (paths.root / "metrics.jsonl").write_text("kept\n")
    return paths


def contents(root):
    """Everything below the directory but the lock, which names the last process that asked."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name != "run.lock"]
    return {p.relative_to(root): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@contextmanager
def refused(*words):
    """The block must be refused with a message that holds all of the words."""
    with pytest.raises(RunDirectoryError) as caught:
        yield
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def try_run(root, config=CONFIG):
    with open_run(root, config):
        pytest.fail("the directory was claimed")


@contextmanager
def held_by_another_process(root):
    """Another process has the directory open; yields its process id."""
    command = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate()


# What is allowed


def test_a_missing_directory_is_made_and_holds_the_config(tmp_path):
    root = tmp_path / "runs" / "first"
    with open_run(root, CONFIG) as paths:
        assert paths.root == root and read_config(root) == CONFIG


def test_an_empty_directory_is_taken(tmp_path):
    start_run(tmp_path)
    assert read_config(tmp_path) == CONFIG


def test_the_same_run_is_resumed_with_what_it_holds(tmp_path):
    start_run(tmp_path)
    with open_run(tmp_path, preset("debug")) as paths:
        assert (paths.root / "metrics.jsonl").read_text() == "kept\n"


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 500},
        {"learner.num_threads": 7},
        {"learner.device": "cpu"},
        {"schedule.report_interval_gradient_steps": 9},
        {"checkpoint.interval_s": 9.0},
        {"checkpoint.keep": 9},
        {"checkpoint.keep_every": 9},
        {"checkpoint.request_timeout_s": 9.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_alter_the_algorithm_may_change_and_is_written_down(tmp_path, change):
    start_run(tmp_path)
    wanted = changed(CONFIG, change)
    with open_run(tmp_path, wanted):
        assert read_config(tmp_path) == wanted != CONFIG


def test_a_run_is_free_again_once_it_is_left_even_by_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, CONFIG):
        _ = 1 / 0
    start_run(tmp_path)


def test_a_directory_that_only_holds_the_lock_of_a_start_that_died_is_taken(tmp_path):
    (tmp_path / "run.lock").write_text("process 1 on elsewhere\n")
    start_run(tmp_path)
    assert read_config(tmp_path) == CONFIG


def test_the_default_directory_is_named_after_preset_task_and_seed():
    config = changed(CONFIG, {"env.task": "my.games:make_env", "seed": 3})
    assert str(default_run_dir(config)) == "runs/debug_my_games_make_env_3"


# What is refused


@pytest.mark.parametrize(
    ("path", "value", "there"),
    [
        ("env.task", "breakout", "'pong'"),
        ("seed", 1, "0"),
        ("behavior.discount", 0.9, "0.995"),
        ("schedule.policy_steps_per_gradient_step", 8, "4"),
        ("world_model.optimizer.learning_rate", 0.5, "0.001"),
        ("env.time_limit_steps", None, "27000"),
        ("checkpoint.url", "s3://bucket/run", "None"),
    ],
)
def test_another_setting_is_refused_with_both_values(tmp_path, path, value, there):
    start_run(tmp_path)
    before = contents(tmp_path)
    with refused(f"{path}={there} there, {value!r} asked for", "--run-dir", "Nothing was changed"):
        try_run(tmp_path, changed(CONFIG, {path: value}))
    assert contents(tmp_path) == before


def test_another_preset_is_refused_by_its_name_first(tmp_path):
    start_run(tmp_path)
    before = contents(tmp_path)
    with refused("(preset='debug' there, 'atari' asked for; ", "; ...)"):
        try_run(tmp_path, preset("atari"))
    assert contents(tmp_path) == before


def test_an_allowed_change_does_not_hide_a_forbidden_one(tmp_path):
    start_run(tmp_path)
    with refused("seed=0 there, 1 asked for"):
        try_run(tmp_path, changed(CONFIG, {"steps": 500, "seed": 1}))
    assert read_config(tmp_path) == CONFIG


def test_files_of_something_else_are_refused_by_name_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "replay").mkdir()
    with refused("thesis.tex", "replay", "no config.json", "--run-dir"):
        try_run(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["replay", "thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("below", [".", "runs/first"])
def test_a_place_that_cannot_be_a_directory_is_refused_with_the_systems_reason(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("kept")
    with refused(str(file), "Wanted to write a run", "--run-dir", "permissions"):
        try_run(file / below)
    assert file.read_text() == "kept"


def test_a_run_in_use_by_another_process_is_refused_with_that_process(tmp_path):
    start_run(tmp_path)
    with held_by_another_process(tmp_path) as process_id:
        before = contents(tmp_path)
        with refused(f"in use by process {process_id} on ", "--run-dir"):
            try_run(tmp_path)
        assert contents(tmp_path) == before
    start_run(tmp_path)


def test_a_run_may_not_be_opened_twice_by_one_process_either(tmp_path):
    with open_run(tmp_path, CONFIG), refused("in use by process"):
        try_run(tmp_path)


@pytest.mark.parametrize(
    "damaged",
    ["", "{", '{"steps": ', "null", "3", '{"steps": 0}', '{"stepz": 1}', '{"env": 3}'],
)
def test_a_damaged_config_is_refused_with_what_is_wrong_and_kept(tmp_path, damaged):
    paths = start_run(tmp_path)
    paths.config.write_text(damaged)
    before = contents(tmp_path)
    with refused("config.json cannot be read as a config", "restore it or start a new"):
        try_run(tmp_path)
    assert contents(tmp_path) == before


def test_a_config_that_is_no_text_is_refused(tmp_path):
    paths = start_run(tmp_path)
    paths.config.write_bytes(b"\xff\x00\xfe")
    with refused("cannot be read as a config"):
        read_config(tmp_path)


def test_a_config_with_a_value_out_of_range_is_refused_with_the_reason(tmp_path):
    paths = start_run(tmp_path)
    values = json.loads(paths.config.read_text())
    values["behavior"]["horizon"] = 1
    paths.config.write_text(json.dumps(values))
    with refused("horizon=1", "without a target"):
        read_config(tmp_path)


def test_settings_that_are_not_known_are_left_out_and_named_once(tmp_path, caplog):
    paths = start_run(tmp_path)
    values = json.loads(paths.config.read_text())
    values["behavior"]["of_tomorrow"] = 1
    paths.config.write_text(json.dumps(values))
    assert read_config(tmp_path) == read_config(tmp_path) == CONFIG
    assert caplog.text.count("read without behavior.of_tomorrow, which this program does not") == 1


@pytest.mark.parametrize("below", ["", "nowhere"])
def test_a_directory_without_a_run_cannot_be_read(tmp_path, below):
    with refused("holds no config.json", "dreamer train"):
        read_config(tmp_path / below)


def test_a_directory_of_runs_is_told_which_it_has(tmp_path):
    start_run(tmp_path / "one")
    with refused(f"such as {tmp_path / 'one'}"):
        read_config(tmp_path)
