"""What `train` and `local` print beside the table."""

import io
import json
import logging
import sys

import pytest
from rich.console import Console

from dreamer_core.presets import preset
from dreamer_core.report.log import RunLog
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.report.report import Report
from dreamer_core.run.front import RunResult
from services.cli.training import log_through, past_of, train_shown
from tests.commands import SMALL, exit_code_of, own_process


def test_lines_of_imports_are_left_out_and_all_others_are_shown():
    said, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log_through(Console(file=said), is_live=True)
        for name in (
            "absl",
            "OpenGL.acceleratesupport",
            "matplotlib.x",
            "dreamer_core.run.trainer",
            "my_package",
        ):
            logging.getLogger(name).info("told by %s", name)
        logging.getLogger("absl").warning("a warning")
    finally:
        root.handlers, root.level = handlers, level
    lines = [line.split("INFO")[-1].strip() for line in said.getvalue().splitlines()]
    assert lines[:2] == ["told by dreamer_core.run.trainer", "told by my_package"]
    assert len(lines) == 3 and "a warning" in lines[2]


def test_a_stream_that_cannot_show_a_character_gets_a_question_mark(copied, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert exit_code_of("local", "debug", *SMALL, "--run-dir", copied) == 0
    stdout.seek(0)
    assert "?" in stdout.read()


def test_as_json_each_line_of_a_run_and_of_what_ends_it_is_an_object(copied, monkeypatch, capsys):
    monkeypatch.setenv("DREAMER_LOG_FORMAT", "text")  # is as before afterwards
    command = ("local", "debug", *SMALL, "--run-dir", copied, "--log-format", "json")
    assert exit_code_of(*command) == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in (shown.out + shown.err).splitlines()]
    assert lines[0]["message"].startswith("debug on ") and lines[-1]["is_finished"]
    assert exit_code_of(*command, "--seed", "9") == 2
    (refusal,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert refusal["level"] == "ERROR" and "seed" in refusal["message"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_run_that_its_cluster_ended_says_so_in_one_line_and_by_its_exit_code(
    tmp_path, monkeypatch, capsys, log_format
):
    monkeypatch.setenv("DREAMER_LOG_FORMAT", log_format)  # is as before afterwards
    left = RunResult(tmp_path, policy_steps=8, gradient_steps=2, is_finished=False, pictures=())
    with own_process():
        code = train_shown(preset("debug"), tmp_path, lambda: lambda *_: left, log_format)
    *_, line = capsys.readouterr().out.splitlines()
    assert code == 143 and "Stopped" in line and str(tmp_path / "metrics.jsonl") in line


def test_a_resumed_run_shows_what_it_returned_before(copied):
    log = copied / METRICS_FILE
    found = {"dreamer_evaluation_return": 4.0}
    for weights in ("latest", "8"):
        labels = {"mode": "greedy", "weights": weights}
        with RunLog(copied, frames_per_policy_step=1) as run_log:
            report = Report(service="evaluator", values=found, labels=labels)
            run_log.write(report, policy_step=200, gradient_step=40)
        found = {"dreamer_evaluation_return": 5.0}  # of an older checkpoint
    before = past_of(copied)
    assert before.training.episodes
    assert before.newest_evaluation == {"dreamer_evaluation_return": 4.0}
    log.write_text("damaged\n" + log.read_text())
    again = past_of(copied)
    assert (again.newest, again.training.episodes) == (before.newest, before.training.episodes)
    assert past_of(copied / "new").newest is past_of(log).newest is None
