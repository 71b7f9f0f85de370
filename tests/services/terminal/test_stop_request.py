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
hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**9)  # many minutes in C, blind to signals
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
        time.sleep(0.2)  # as fast as fingers are
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_each_signal_asks_for_a_stop_once(number, code):
    with started(WAITING) as process:
        process.send_signal(number)
        assert process.communicate(timeout=60)[0].count("Stopping: ") == 1
        assert process.returncode == code


def test_a_signal_that_comes_twice_at_once_is_one(tmp_path):
    saved = tmp_path / "saved"
    at_once = "import services.terminal.stop_request as taken; taken._ECHO_S = 60.0\n"
    saving = f"time.sleep(0.5); open({str(saved)!r}, 'w'); sys.exit"
    with started(at_once + WAITING.replace("sys.exit", saving)) as process:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert saved.exists()


def test_a_worker_that_an_environment_forks_and_ends_does_not_stop_the_run():
    code = WAITING.replace(
        "import time\n",
        (
            "import multiprocessing, os, time\n"
            "begun, begins = os.pipe()\n"
            "def work(): os.write(begins, b'.'); time.sleep(600)\n"
            "worker = multiprocessing.get_context('fork').Process(target=work)\n"
            "worker.start(); os.read(begun, 1)\n"
            "worker.terminate(); worker.join(60); time.sleep(0.1)\n"
            "sys.exit(0 if worker.exitcode == -15 and not should_stop() else 1)\n"
        ),
    )
    with started(code) as process:
        assert process.wait(100) == 0


def test_under_nohup_a_terminal_may_go_away():
    with started(WAITING.replace("SIG_DFL", "SIG_IGN")) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


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
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == 5


def test_what_is_written_to_a_stream_that_was_closed_is_lost_and_nothing_else(tmp_path):
    stream = (tmp_path / "out").open("w")
    lasting = LastingStream(stream)
    stream.close()
    assert lasting.write("gone") == 4 and lasting.write("also gone") == 9
    lasting.flush()
    lasting.close()


@pytest.mark.parametrize("module", ["services.cli.dispatch", "tyro", "ray"])
def test_ctrl_c_while_a_command_is_starting_ends_it_without_a_trace(tmp_path, module):
    interrupted = (
        "import os, runpy, signal, sys\n"
        "def see(event, arguments):\n"
        f"    if event == 'import' and arguments[0] == {module!r}:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(see); runpy.run_module('services.cli', run_name='__main__')"
    )
    command = [sys.executable, "-c", interrupted, "train", "debug", "--run-dir", tmp_path / "r"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100, check=False
    )
    assert done.returncode == 130
    assert all(b" dreamer INFO debug on pong, in " in line for line in done.stdout.splitlines())
    assert not (tmp_path / "r").exists()
