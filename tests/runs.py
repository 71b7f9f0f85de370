"""Whole runs as a user starts them, for tests: started, watched, killed, counted."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter, defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dreamer_core.envs.suites import environment_spec
from dreamer_core.replay.format import read_file_header
from dreamer_core.replay.replay import open_replay
from dreamer_core.replay.survey import map_file, scan
from dreamer_core.report.read import read_jsonl
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunPaths, read_config
from dreamer_core.storage.store import LocalStore

ROOT = Path(__file__).parents[1]
DREAMER = Path(sys.executable).with_name("dreamer")
PREFILL, RATIO, COLLECT_STEPS = 50, 4, 10  # of preset debug
CPU = ("--learner.device", "cpu", "--learner.num-threads", "1")
CATCH = (
    *("--env.suite", "gymnasium", "--env.task", "tests.learning.catch:make_env"),
    *("--env.action-repeat", "1", "--env.time-limit-steps", "None"),
)
CALM = (*CATCH, "--env.task", "tests.services.failing_env:make_calm_env")
"""Catch for a run that others are to be tested beside."""
SLOW = (*CATCH, "--env.task", "tests.services.failing_env:make_slow_env")
"""Catch for a run that is to be met in its middle; slow while it is told so, see SlowCatch."""
NO_EVALUATION = ("--evaluation.interval-frames", "None")
OFTEN = ("--checkpoint.interval-s", "0.5")
TITLES = {"learner": "ray::Learner", "collector": "ray::Collector", "replay": "ray::ReplayServer"}
"""How the processes that a run cannot do without are called."""
EXACT = (*("--schedule.report-interval-gradient-steps", "1"), *("--replay.segment-steps", "64"))
"""Every gradient step is reported, and segments are small enough to be evicted."""


def free_port():
    """A port that nobody is given by chance before it is used: the kernel hands out later ones."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", random.SystemRandom().randrange(20_000, 32_768)))
            return free.getsockname()[1]


class Run:
    """A `dreamer` process that trains preset debug, and all processes that it starts.

    Of a sweep, `run_dir` is the directory of the sweep. `variables` are of the environment.
    """

    def __init__(self, command, run_dir, *options, **variables):
        self.run_dir = run_dir
        self.stdout = self.stderr = ""
        self._mark = f"DREAMER_TEST_RUN={uuid.uuid4().hex}"
        self.metrics_port = free_port()
        port = ("--metrics.port", str(self.metrics_port)) if command == "train" else ()
        place = "--sweep-dir" if command == "sweep" else "--run-dir"
        self._process = subprocess.Popen(
            [DREAMER, command, "debug", place, run_dir, *CPU, *port, *options],
            cwd=ROOT,
            env={**os.environ, **variables, **dict([self._mark.split("=")])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
        )

    def finish(self, timeout_s=200):
        """Waits for the end and returns the exit code."""
        try:
            self.stdout, self.stderr = self._process.communicate(timeout=timeout_s)
        finally:
            self._process.kill()
        return self._process.returncode

    def interrupt(self):
        """Ctrl-C: a terminal signals the command and whatever shares its process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def processes(self):
        """Command lines by process id of everything alive that this run started."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if self._mark.encode() in (path / "environ").read_bytes():
                    line = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(path.name)] = line.decode().strip()
        return found

    def survivors(self):
        """Those of them that do not end within a minute: Ray's own take their time."""
        give_up_s = time.monotonic() + 60
        while (left := self.processes()) and time.monotonic() < give_up_s:
            time.sleep(0.2)
        return left

    def reachable(self):
        """Command lines of its processes that listen on other addresses than loopback ones."""
        loopback = ("0100007F", "0000000000000000FFFF00000100007F", 24 * "0" + "01000000")
        found = set()
        for pid, line in self.processes().items():
            with contextlib.suppress(OSError):  # it ended meanwhile
                sockets = {str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir()}
                for table in ("tcp", "tcp6"):
                    for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                        cells = row.split()
                        is_own = cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets
                        if is_own and cells[1].partition(":")[0] not in loopback:
                            found.add(line)
        return found

    def terminate(self):
        """SIGTERM to the command alone, as from a container engine or before a machine goes."""
        self._process.terminate()

    def signal_all(self, number):
        """SIGHUP to every process, as when the terminal goes; SIGTERM, when the machine does."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, service):
        """kill -9 of one service's process, or of the whole command by the name `supervisor`."""
        if service == "supervisor":
            self._process.kill()
            return
        os.kill(self.process_id(service), signal.SIGKILL)

    def process_id(self, service):
        """Of one service's process."""
        title = TITLES.get(service, service)
        (pid,) = (p for p, line in self.processes().items() if line.startswith(title))
        return pid

    @property
    def pid(self):
        """Process id of the command."""
        return self._process.pid

    def is_over(self):
        """Whether the command has ended."""
        return self._process.poll() is not None

    def scrape(self):
        """What Prometheus would see now, {} before the run serves it."""
        try:
            url = f"http://127.0.0.1:{self.metrics_port}/metrics"
            with urllib.request.urlopen(url, timeout=60) as response:
                text = response.read().decode()
        except (OSError, http.client.HTTPException):
            return {}
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_until(self, condition, timeout_s=200):
        """Returns the first true value of the condition, which the run must live to see."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            is_over = self.is_over()  # before it is looked, which may take its time
            if value := condition():
                return value
            if is_over:
                raise AssertionError(f"ended with {self.finish()}: {self.stderr}")
            if time.monotonic() > deadline_s:
                self._process.kill()
                raise AssertionError(f"not within {timeout_s} s; now {self.scrape()}")
            time.sleep(0.1)

    def wait_for(self, *sample, least=1.0):
        """Returns the first scrape in which a sample has reached `least`."""
        return self.wait_until(lambda: (now := self.scrape()).get(sample, 0.0) >= least and now)


def due(policy_steps):
    return max(0, policy_steps - PREFILL) // RATIO


def checkpoint_counts(run_dir):
    found = checkpoint.load(LocalStore(run_dir / "checkpoints"))
    return found.facts["policy_step"], found.facts["gradient_step"]


def replay_counts(run_dir):
    """What the replay of a run that has ended holds."""
    config = read_config(run_dir)
    replay = open_replay(RunPaths(run_dir).replay, config.replay, environment_spec(config.env))
    counts = replay.counts()
    replay.close()
    return counts


def stored_policy_steps(run_dir):
    """Policy steps of a run by the replay's count, and by its rows: all but one per episode."""
    counts = replay_counts(run_dir)
    return counts.policy_steps, counts.stored_steps - counts.stored_episodes


def counted(run_dir, name):
    """Each value that a metric had in metrics.jsonl, in order."""
    return [
        line.values[name] for line in read_jsonl(run_dir / "metrics.jsonl") if name in line.values
    ]


def losses(run_dir):
    """Every loss and norm of every gradient step."""
    measured = [
        {k: v for k, v in line.values.items() if "_loss" in k or "_norm" in k}
        for line in read_jsonl(run_dir / "metrics.jsonl")
        if line.service == "learner"
    ]
    return [values for values in measured if values]


def restarts(run_dir):
    """How often each service was replaced."""
    lines = read_jsonl(run_dir / "metrics.jsonl")
    return Counter(x.labels["service"] for x in lines if "dreamer_restarts_total" in x.values)


def assert_one_paragraph(run, *parts):
    """What was wanted, what came, what to do: no traceback, and one line of the log."""
    printed = run.stderr + run.stdout
    assert "Traceback" not in printed, printed[max(0, printed.index("Traceback") - 1000) :][:4000]
    (told,) = [line for line in run.stderr.splitlines() if " dreamer ERROR " in line]
    for part in parts:
        assert part in told, told


def losses_by_step(run_dir):
    """All losses by gradient step, each as it was computed, however often it was."""
    found = defaultdict(set)
    for line in read_jsonl(run_dir / "metrics.jsonl"):
        if line.service == "learner" and "dreamer_actor_loss" in line.values:
            values = {k: v for k, v in line.values.items() if "_loss" in k or "_norm" in k}
            found[line.values["dreamer_gradient_steps_total"]].add(json.dumps(values))
    return dict(found)


def record_keys(run_dir):
    """(incarnation, episode, step) of every row in the replay's files."""
    keys = []
    for path in sorted((run_dir / "replay").glob("*.segment")):
        data = map_file(path)
        for r in scan(data, read_file_header(data), is_payload_checked=True).records:
            keys += [(r.incarnation, r.episode, r.first_step + row) for row in range(r.rows)]
    return keys


def stored_rows(run_dir):
    """Every row of the replay's files, in the order in which they were stored."""
    columns = []
    for path in sorted((run_dir / "replay").glob("*.segment")):
        data = map_file(path)
        header = read_file_header(data)
        for record in scan(data, header, is_payload_checked=True).records:
            size = record.rows * header.layout.row_bytes
            columns.append(bytes(data[record.payload_at : record.payload_at + size]))
    return columns


def assert_same_run(killed, whole):
    wanted, got = losses_by_step(whole), losses_by_step(killed)
    assert all(len(values) == 1 for values in got.values()), "a step repeated gave other losses"
    assert got == wanted
    assert stored_rows(killed) == stored_rows(whole)
    assert replay_counts(killed) == replay_counts(whole)
