"""A run in lockstep that is killed and resumed computes what one that was never killed computes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from dreamer_core.envs import environment_spec
from dreamer_core.replay import open_replay
from dreamer_core.report import read_jsonl
from dreamer_core.run_directory import RunPaths, read_config
from dreamer_core.segments import map_file, read_file_header, scan

ROOT = Path(__file__).parents[2]
OPTIONS = (
    *("debug", "--learner.device", "cpu", "--learner.num-threads", "1", "--seed", "3"),
    *("--schedule.report-interval-gradient-steps", "1"),
    *("--schedule.checkpoint-interval-s", "0.3", "--replay.segment-steps", "64"),
)


def start(run_dir, steps, *options, command="local"):
    """The command as users start it, in a process group of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "services.cli",
            command,
            *OPTIONS,
            "--steps",
            str(steps),
            "--run-dir",
            str(run_dir),
            *options,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(run_dir, steps, *options, command="local"):
    process = start(run_dir, steps, *options, command=command)
    output = process.communicate(timeout=200)[0].decode()
    assert process.returncode == 0, output


def kill_at(run_dir, gradient_step, delay_s, steps, *options, command="local"):
    """Kills the run without warning, `delay_s` after it has reported a gradient step."""
    process = start(run_dir, steps, *options, command=command)
    deadline = time.monotonic() + 200
    while not reached(run_dir, gradient_step):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.01)
    time.sleep(delay_s)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def reached(run_dir, gradient_step):
    lines = read_jsonl(run_dir / "metrics.jsonl", tail_bytes=20_000)
    return bool(lines) and lines[-1].gradient_step >= gradient_step


def losses(run_dir):
    """All losses by gradient step, each as it was computed, however often it was."""
    found = defaultdict(set)
    for line in read_jsonl(run_dir / "metrics.jsonl"):
        if line.service == "learner" and "dreamer_actor_loss" in line.values:
            values = {k: v for k, v in line.values.items() if "_loss" in k or "_norm" in k}
            found[line.values["dreamer_gradient_steps_total"]].add(json.dumps(values))
    return dict(found)


def rows(run_dir):
    """Every row of the replay's files, in the order in which they were stored."""
    columns = []
    for path in sorted((run_dir / "replay").glob("*.segment")):
        data = map_file(path)
        header = read_file_header(data)
        for record in scan(data, header, is_payload_checked=True).records:
            size = record.rows * header.layout.row_bytes
            columns.append(bytes(data[record.payload_at : record.payload_at + size]))
    return columns


def counts(run_dir):
    config = read_config(run_dir)
    replay = open_replay(RunPaths(run_dir).replay, config.replay, environment_spec(config.env))
    found = replay.counts()
    replay.close()
    return found


def assert_same_run(killed, whole):
    wanted, got = losses(whole), losses(killed)
    assert all(len(values) == 1 for values in got.values()), "a step repeated gave other losses"
    assert got == wanted
    assert rows(killed) == rows(whole)
    assert counts(killed) == counts(whole)


@pytest.mark.parametrize("capacity_steps", [10_000, 192], ids=["all kept", "old segments evicted"])
def test_a_local_run_killed_at_random_moments_gives_the_same_losses_and_actions(
    tmp_path, capacity_steps
):
    steps, options = 400, ("--replay.capacity-steps", str(capacity_steps))
    finish(tmp_path / "whole", steps, *options)
    rng = random.Random(capacity_steps)
    for gradient_step in (8, 40):
        kill_at(tmp_path / "killed", gradient_step, rng.uniform(0, 0.6), steps, *options)
    finish(tmp_path / "killed", steps, *options)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == (steps - 50) // 4
