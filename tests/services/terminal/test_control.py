"""What `dreamer stop`, `logs`, `--on` and `submit` refuse; on a real run see test_attach.py."""

import asyncio
import fcntl
import os
import platform
import re
import signal
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from dreamer_core.presets import preset
from dreamer_core.storage.run_directory import open_run
from services.cluster import remote, signals
from services.terminal import control
from tests.commands import forget_token


@pytest.fixture
def dreamer(dreamer):
    """Runs a command: (exit code, stdout, stderr), each on one line."""

    def run(*words):
        code, *written = dreamer(*words)
        return code, *(" ".join(text.split()) for text in written)

    return run


def begin(run_dir):
    """Leaves what a run has as soon as it is there: its config."""
    with open_run(run_dir, preset("debug")):
        pass


@pytest.mark.parametrize("command", ["stop", "logs"])
def test_a_directory_without_a_run_is_refused(dreamer, tmp_path, command):
    code, _, complaint = dreamer(command, tmp_path)
    assert code == 2 and "Wanted a run directory" in complaint


@pytest.mark.parametrize("cluster", ["nowhere.yaml", "pong"])
def test_what_names_no_cluster_is_refused(dreamer, cluster):
    for words in (("status", "runs/pong", "--on", cluster), ("submit", cluster, "debug")):
        code, _, complaint = dreamer(*words)
        assert code == 2 and "http://HOST:8265" in complaint


def test_a_submission_is_checked_before_it_leaves(dreamer, tmp_path):
    (tmp_path / "cluster.yaml").write_text("cluster_name: test\n")
    code, _, complaint = dreamer("submit", tmp_path / "cluster.yaml", "debug", "--steps", "0")
    assert code == 2 and "steps=0" in complaint
    code, _, complaint = dreamer("submit", tmp_path / "cluster.yaml", "debug", "--env.task", "pnog")
    assert code == 2 and "closest: pong" in complaint
    words = ("debug", "--runtime.ray-address", "auto")
    code, _, complaint = dreamer("submit", tmp_path / "cluster.yaml", *words)
    assert code == 2 and "drop it" in complaint


@pytest.fixture
def assert_names_the_way(dreamer, monkeypatch):
    """Asserts that the command says how a job server is reached, which it could not."""

    def check(address, token="0" * 64):
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        code, _, complaint = dreamer("status", "runs/pong", "--on", address)
        assert code == 1 and "Traceback" not in complaint, complaint
        assert address in complaint and "ssh tunnel" in complaint and "token" in complaint
        return complaint

    return check


def test_a_job_server_that_does_not_answer_is_named_with_what_to_do(assert_names_the_way):
    assert_names_the_way("http://127.0.0.1:1")


def test_the_token_of_one_command_is_not_that_of_the_next(
    assert_names_the_way, monkeypatch, request
):
    from ray._raylet import AuthenticationTokenLoader

    assert_names_the_way("http://127.0.0.1:1", token="1" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "2" * 64)
    request.addfinalizer(forget_token)
    assert AuthenticationTokenLoader.instance().get_raw_token() == "2" * 64


def test_a_missing_token_is_named_with_what_to_do(assert_names_the_way, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_names_the_way("http://127.0.0.1:1", token="")


class Refuses(BaseHTTPRequestHandler):
    """A job server to which every token is wrong."""

    def do_GET(self):
        self.send_response(int(self.server.status))
        self.end_headers()
        self.wfile.write(b"no")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_is_named_with_what_to_do(assert_names_the_way, status):
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    server.status = status
    Thread(target=server.serve_forever, daemon=True).start()
    assert_names_the_way(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


def test_a_job_server_that_never_answers_is_given_up(assert_names_the_way, monkeypatch):
    monkeypatch.setattr(remote, "_ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel takes connections
        complaint = assert_names_the_way(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert "no answer came within 0.1 s" in complaint and "ray job list" in complaint


def test_what_a_training_says_is_not_folded_by_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert "COLUMNS=200 " in remote._script(["train", "debug"], "mark")
    assert "COLUMNS=40 " in remote._script(["status", "runs/pong"], "mark")


class JobServer:
    """A job server on which a command has said what it says, and goes on.

    MARK in a line is that of the command; a number among the lines is a signal that comes then, and
    comes again while the job is being stopped; with None it falls silent, and answers once more.
    """

    def __init__(self, *lines, submitting=lambda: None):
        self.entrypoint, self._lines, self.stopped = None, lines, None
        self._submitting, self.asked, self.failure = submitting, 0, TimeoutError()
        remote._broken()  # imports what the client that it stands for has imported

    def submit_job(self, *, entrypoint, submission_id):
        self.entrypoint = entrypoint
        self._submitting()
        return submission_id

    async def tail_job_logs(self, _job):
        mark = re.search(r"echo (\w+);", self.entrypoint)[1]
        for line in (mark, *self._lines):
            if line is None:
                await asyncio.sleep(3600)
            elif isinstance(line, int):
                os.kill(os.getpid(), line)
            else:
                yield f"{line.replace('MARK', mark)}\n"
        raise AssertionError("it was waited for after it had begun, or ended")

    def get_address(self):
        return "http://head:8265"

    def get_job_status(self, _job):
        self.asked += 1
        if self.asked > 1:
            raise self.failure

    def stop_job(self, job):
        for number in filter(lambda line: isinstance(line, int), self._lines):
            os.kill(os.getpid(), number)
        self.stopped = job


def test_a_command_elsewhere_is_over_with_its_last_mark(dreamer, monkeypatch):
    server = JobServer("where it stands", "MARK 3")
    monkeypatch.setattr(remote, "_job_client", lambda _: server)
    code, said, _ = dreamer("status", "runs/pong", "--on", "http://head:8265")
    assert (code, said, server.stopped) == (3, "where it stands", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_elsewhere_ends_with_the_one_that_sent_it(dreamer, monkeypatch, number):
    server = JobServer("a line", int(number))
    monkeypatch.setattr(remote, "_job_client", lambda _: server)
    monkeypatch.setattr(signals, "_ECHO_S", 60.0)  # the second is at once, however slow it is here
    before = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored
    try:
        code, said, complaint = dreamer("logs", "runs/pong", "--follow", "--on", "http://head:8265")
    finally:
        signal.signal(number, before)
    assert (code, said, complaint) == (128 + number, "a line", "")
    assert server.stopped.startswith("dreamer-logs-")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (TimeoutError(), "no answer came within 0.1 s"),
        (
            RuntimeError("Request failed with status code 500: no. And a page of HTML"),
            "code 500: no",
        ),
    ],
)
def test_a_silent_command_elsewhere_goes_on_while_its_server_answers(
    dreamer, monkeypatch, failure, reason
):
    server = JobServer("a line", None)
    server.failure = failure
    monkeypatch.setattr(remote, "_job_client", lambda _: server)
    monkeypatch.setattr(remote, "_ANSWER_S", 0.1)
    code, said, complaint = dreamer("logs", "runs/pong", "--follow", "--on", "http://head:8265")
    assert (code, said, server.asked) == (1, "a line", 2)
    assert "job server at http://head:8265, but" in complaint and reason in complaint
    assert server.stopped.startswith("dreamer-logs-")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("status runs/pong --jsno", "--jsno"),
        ("stop", "missing from dreamer stop: path"),
        ("stop runs/pong --timeout-s inf", "timeout_s=inf must be finite"),
        ("logs runs/pong --folow", "--folow"),
        ("eval runs/pong --video here.txt", ".webm"),
        ("attach runs/pong --evaluators 0", "--evaluators 0"),
        ("replay verify", "missing from dreamer replay verify: path"),
    ],
)
def test_a_command_for_a_cluster_is_checked_before_it_leaves(dreamer, words, why):
    code, _, complaint = dreamer(*words.split(), "--on", "http://127.0.0.1:1")
    assert code == 2 and why in complaint.lower()


def test_help_of_a_command_for_a_cluster_is_told_here(dreamer):
    code, said, complaint = dreamer("logs", "--help", "--on", "http://127.0.0.1:1")
    assert (code, complaint) == (0, "") and "--follow" in said


def test_a_command_that_is_interrupted_while_it_is_sent_ends_there_too(dreamer, monkeypatch):
    server = JobServer(submitting=lambda: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(remote, "_job_client", lambda _: server)
    code, _, _ = dreamer("logs", "runs/pong", "--follow", "--on", "http://head:8265")
    assert code == 130 and server.stopped.startswith("dreamer-logs-")


def test_a_sweep_is_started_on_a_cluster_and_goes_on_there(dreamer, monkeypatch):
    server = JobServer("2026 dreamer INFO Started: 0 done, 2 waiting")
    monkeypatch.setattr(remote, "_job_client", lambda _: server)
    words = ("sweep", "debug", "--seeds", "2", "--log-format", "json", "--on", "http://head:8265")
    code, said, _ = dreamer(*words)
    assert code == 0 and "dreamer stop sweeps/debug --on http://head:8265" in said
    wanted = "dreamer sweep debug --seeds 2 --log-format json --sweep-dir sweeps/debug"
    assert f"{wanted} --ray-address auto;" in server.entrypoint


def test_a_sweep_for_a_cluster_is_checked_before_it_leaves(dreamer):
    on = ("--on", "http://127.0.0.1:1")
    for words, why in (
        (("--steps", "0"), "steps=0"),
        (("--ray-address", "auto"), "drop it"),
        (("--seed", "3"), "--first-seed"),
        (("--metrics.port", "70000"), "no TCP port"),
        (("--games", "boxing,pnog"), "closest: pong"),
    ):
        code, _, complaint = dreamer("sweep", "debug", *words, *on)
        assert code == 2 and why in complaint
    code, _, complaint = dreamer("sweep", "debug", "--on", "nowhere")
    assert code == 2 and "http://HOST:8265" in complaint
    code, _, complaint = dreamer("sweep", "debug", "--on")
    assert code == 2 and "--on: wanted a value" in complaint


def test_what_a_command_prints_is_what_stands_between_the_marks():
    said = []
    lines = [
        "chatter",
        "\x1b[0mmark\r\n",
        "one\r\n",
        "entrypoint: echo mark",
        "two",
        "mark 3",
        "bye",
    ]
    assert remote._relay(lines, "mark", said.append) == 3
    assert said == ["one", "two"]


def test_a_lock_that_is_not_signed_yet_stops_nobody(dreamer, tmp_path):
    begin(tmp_path)
    with (tmp_path / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, complaint = dreamer("stop", tmp_path)
    assert code == 1 and "just starting; try again" in complaint


def test_a_run_of_another_user_is_left_to_that_user(tmp_path, monkeypatch):
    def kill(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.kill", kill)
    begin(tmp_path)
    with (tmp_path / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"process 1 on {platform.node()}")
        lock.flush()
        with pytest.raises(control.StillRunning, match="belongs to another user"):
            control.stop(control.StopCommand(run_dir=tmp_path), control.run_at(tmp_path))


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_ray_cluster_that_is_not_there_is_named_with_what_to_do(dreamer, tmp_path, command):
    place = "--runtime.ray-address" if command == "train" else "--ray-address"
    options = ("--steps", "100", place, "127.0.0.1:1")
    directory = "--run-dir" if command == "train" else "--sweep-dir"
    code, _, said = dreamer(command, "debug", *options, directory, tmp_path / "run")
    assert code == 1 and "Traceback" not in said
    assert "Wanted to join the Ray cluster at 127.0.0.1:1" in said and "token" in said


def test_a_run_without_a_log_says_so(dreamer, tmp_path):
    begin(tmp_path)
    code, _, complaint = dreamer("logs", tmp_path)
    assert code == 2 and "`offline` do not" in complaint


def test_a_cluster_that_cannot_be_reached_says_what_ray_said(dreamer, tmp_path):
    (tmp_path / "cluster.yaml").write_text("cluster_name: test\n")
    code, _, complaint = dreamer("status", "runs/pong", "--on", tmp_path / "cluster.yaml")
    assert code == 1 and "Wanted the end of a command on the cluster" in complaint
