"""What `dreamer status` needs and shows."""

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from dreamer_core.presets import preset
from dreamer_core.report.log import RunLog
from dreamer_core.report.report import Report
from dreamer_core.storage.run_directory import open_run
from services.terminal.status import as_json, read_status, render_status

HEAVY = ("numpy", "torch", "ray", "tensorboard", "matplotlib", "cv2", "PIL", "fsspec")
KL, EVALUATION = "dreamer_kl_nats", "dreamer_evaluation_return"


@pytest.fixture
def log(tmp_path):
    """Writes one report of a run that trains no more."""
    with open_run(tmp_path, preset("debug")):
        pass

    def write(policy_step, name, value, weights="latest"):
        labels = {"mode": "greedy", "weights": weights}
        report = Report(service="any", values={name: value}, labels=labels)
        with RunLog(tmp_path, frames_per_policy_step=4) as run_log:
            run_log.write(report, policy_step=policy_step, gradient_step=policy_step // 4)

    return write


def shown(run_dir):
    """The rows of the table by their names."""
    console = Console(file=io.StringIO(), width=200)
    console.print(render_status(read_status(run_dir)))
    rows = (line.strip().split("  ", 1) for line in console.file.getvalue().splitlines())
    return {name: value.strip() for name, value in rows}


def test_the_status_of_a_run_is_told_without_what_takes_long_to_import():
    ask = f"import services.terminal.status, sys; print([x for x in {HEAVY} if x in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_a_run_that_has_reported_nothing_says_so(tmp_path, log):
    rows = shown(tmp_path)
    assert rows["state"] == "not running"
    assert (rows["newest checkpoint"], rows["progress"]) == ("none yet", "no report yet")


def test_how_a_run_ended_is_told(tmp_path, log):
    log(40, KL, 2.0)
    assert shown(tmp_path)["state"] == "not running", "dreamer local keeps no log"
    path = tmp_path / "supervisor.log"
    for words, state in (
        ("INFO Started at gradient step 0", "killed"),
        ("INFO Stopped at gradient step 10", "stopped"),
        ("INFO Started at gradient step 10", "killed"),
        ("ERROR Stopped: the disk is full", "failed, as `dreamer logs` tells"),
    ):
        with path.open("a") as lines:
            lines.write(f"2026-01-01T00:00:00+00:00 supervisor {words}\n")
        assert shown(tmp_path)["state"] == f"not running: {state}"
    log(preset("debug").steps, KL, 2.0)
    assert shown(tmp_path)["state"].startswith("not running: failed"), "not done, though all steps"
    with path.open("a") as lines:
        lines.write("2026-01-01T00:00:00+00:00 supervisor INFO Stopped at gradient step 50\n")
    assert shown(tmp_path)["state"] == "not running: done"
    os.utime(path, (0, 0))  # `dreamer local` went on, and keeps no log
    assert read_status(tmp_path).ended == "done"
    log(preset("debug").steps - 1, KL, 2.0)
    assert shown(tmp_path)["state"] == "not running"


def test_the_newest_of_each_number_is_shown_with_where_the_run_stands(tmp_path, log):
    for policy_step, value in ((40, 2.0), (80, 3.0)):
        log(policy_step, KL, value)
    log(100, EVALUATION, 7.0)
    rows = shown(tmp_path)
    assert rows["policy steps"].startswith("100 of ")
    assert (rows["env frames"], rows["gradient steps"]) == ("400", "25")
    assert (rows["KL, nats"], rows["evaluation"]) == ("3", "7")


def test_a_run_that_went_back_is_where_it_is_now(tmp_path, log):
    for policy_step in (40, 80, 60):
        log(policy_step, KL, policy_step)
    rows = shown(tmp_path)
    assert rows["policy steps"].startswith("60 of ") and rows["KL, nats"] == "60"


def test_an_evaluation_of_an_old_checkpoint_is_no_number_of_now(tmp_path, log):
    log(40, EVALUATION, 7.0)
    log(80, EVALUATION, 1.0, weights="4")
    assert shown(tmp_path)["evaluation"] == "7"


def test_as_json_it_has_what_a_program_asks_for(tmp_path, log):
    before = json.loads(as_json(read_status(tmp_path)))
    assert before["policy_step"] is before["checkpoint"] is before["holder"] is None
    log(40, KL, 2.0)
    log(80, EVALUATION, float("nan"))
    told = json.loads(as_json(read_status(tmp_path)))
    assert (told["run"], told["preset"], told["task"]) == (str(tmp_path), "debug", "pong")
    assert (told["policy_step"], told["env_frame"], told["gradient_step"]) == (80, 320, 20)
    assert told["values"] == {KL: 2.0, EVALUATION: None}
