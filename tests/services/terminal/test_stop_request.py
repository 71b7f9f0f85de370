"""Signals on a process of its own, which stands in its main thread where no Python can run."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from services.terminal.lasting import LastingStream

ELSEWHERE = """
import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
import hashlib, sys
from services.terminal.stop_request import StopRequest
should_stop = StopRequest(lambda words: print(words, flush=True))
print("listening", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, without a look at signals
"""
WAITING = ELSEWHERE.rpartition("hashlib")[0] + (
    "import time\nwhile not should_stop(): time.sleep(0.01)\nsys.exit(should_stop.exit_code)"
)


def started(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "listening\n"
    return process


def test_a_second_ctrl_c_ends_the_process_whatever_it_is_in():
    with started(ELSEWHERE) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith("Stopping: ")
        asked_s = time.monotonic()
        time.sleep(0.2)  # as fast as fingers are
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - asked_s < 2


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_each_signal_asks_for_a_stop_once(number, code):
    with started(WAITING) as process:
        process.send_signal(number)
        assert process.communicate(timeout=10)[0].count("Stopping: ") == 1
        assert process.returncode == code


def test_a_signal_that_comes_twice_at_once_is_one(tmp_path):
    saved = tmp_path / "saved"
    code = WAITING.replace("sys.exit", f"time.sleep(0.5); open({str(saved)!r}, 'w'); sys.exit")
    with started(code) as process:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert saved.exists()


def test_a_worker_that_an_environment_forks_and_ends_does_not_stop_the_run():
    code = WAITING.replace(
        "import time\n",
        (
            "import multiprocessing, time\n"
            "worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
            "worker.start(); time.sleep(0.1); worker.terminate(); worker.join(5); time.sleep(0.1)\n"
            "sys.exit(0 if worker.exitcode == -15 and not should_stop() else 1)\n"
        ),
    )
    with started(code) as process:
        assert process.wait(20) == 0


def test_under_nohup_a_terminal_may_go_away():
    with started(WAITING.replace("SIG_DFL", "SIG_IGN")) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


def test_output_to_a_terminal_that_is_gone_is_lost_and_nothing_else():
    ours, theirs = pty.openpty()
    code = (
        "import sys, time; from services.terminal.lasting import LastingStream\n"
        "out = LastingStream(sys.stdout); print('there', file=out, flush=True); sys.stdin.read()\n"
        "print('gone', file=out, flush=True); print('also gone', flush=True); sys.exit(5)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        assert os.read(ours, 100).strip() == b"there"
        os.close(ours)
        assert process.communicate(timeout=10)[1] == b""
        assert process.returncode == 5


def test_what_is_written_to_a_stream_that_was_closed_is_lost_and_nothing_else(tmp_path):
    stream = (tmp_path / "out").open("w")
    lasting = LastingStream(stream)
    stream.close()
    assert lasting.write("gone") == 4 and lasting.write("also gone") == 9
    lasting.flush()
    lasting.close()


@pytest.mark.parametrize("after_s", [0.3, 1.0])
def test_ctrl_c_while_a_command_is_starting_ends_it_without_a_trace(tmp_path, after_s):
    command = [sys.executable, "-m", "services.cli", "train", "debug", "--run-dir", tmp_path / "r"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=10)[0].splitlines()
        assert process.returncode == 130
    assert all(b" dreamer INFO debug on pong, in " in line for line in said)
    assert not (tmp_path / "r").exists()
