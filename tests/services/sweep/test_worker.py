"""The worker that runs one command, and the process that ends with it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.sweep.worker import RunOrder, SweepWorker, find_reason


def test_the_reason_of_a_failure_is_the_commands_own_or_else_pythons_last_line():
    assert find_reason("10:00 box: dreamer local\n") == ""
    told = "x: dreamer local\nnoise\n\n2026-01-01T00:00:00+00:00 dreamer ERROR disk full\nafter"
    assert find_reason(told) == "disk full"
    assert find_reason("x: dreamer\nTraceback\n  File\nRuntimeError: no\n\n") == "RuntimeError: no"
    as_json = '{"time": "", "service": "dreamer", "level": "ERROR", "message": "disk full"}'
    assert find_reason(f'x: dreamer local\n{{"level": "INFO"}}\n{as_json}\n') == "disk full"


def order(tmp_path, *arguments, sweep_id="abc"):
    (tmp_path / "sweep.json").write_text(json.dumps({"id": "abc"}))
    return RunOrder(
        arguments=arguments,
        run_dir=tmp_path / "run",
        log=tmp_path / "logs" / "run.log",
        marker=tmp_path / "sweep.json",
        sweep_id=sweep_id,
        cwd=tmp_path,
    )


def test_a_worker_takes_bad_input_for_a_failure_and_keeps_what_was_said(tmp_path):
    outcome = SweepWorker().run(order(tmp_path, "local", "debg"))
    assert outcome.ending == "failed" and "There is no preset 'debg'" in outcome.reason
    assert "-m services.cli local debg" in (tmp_path / "logs" / "run.log").read_text()


def test_a_worker_that_sees_another_directory_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("services.sweep.worker._MARKER_PATIENCE_S", 0.3)
    outcome = SweepWorker().run(order(tmp_path, "presets", sweep_id="other"))
    assert outcome.ending == "unseen" and os.uname().nodename in outcome.reason
    assert not (tmp_path / "logs").exists()


def test_a_process_tied_to_another_ends_with_it():
    sleep = (
        f"[sys.executable, '-m', 'services.sweep.tied', str(os.getpid()), {'/bin/sleep'!r}, '60']"
    )
    code = f"import os, subprocess, sys, time; print(subprocess.Popen({sleep}).pid, flush=True)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(60)"], stdout=subprocess.PIPE, text=True
    )
    path = Path(f"/proc/{int(parent.stdout.readline())}")
    wait_for(lambda: b"sleep" in (path / "cmdline").read_bytes().split(b"\0")[0])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: has_ended(path))


def has_ended(path):
    with contextlib.suppress(OSError):
        return " Z " in (path / "stat").read_text()
    return True


def wait_for(condition, timeout_s=60):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
