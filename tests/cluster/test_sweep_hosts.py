"""A sweep over two hosts: one does not see the directory, then one loses power."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.sweep.directory import SweepDirectory
from services.sweep.plan import RunKey
from tests.cluster.hosts import hosts, start_ray
from tests.runs import CPU, OFTEN, checkpoint_counts, due, stored_policy_steps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

_DREAMER = Path(sys.executable).with_name("dreamer")
STEPS = 400
KEYS = {RunKey("pong", seed) for seed in range(3)}
OPTIONS = ("debug", *CPU, *OFTEN, "--seeds", "3", "--steps", str(STEPS), "--cpus-per-run", "1.5")


def sweep(head, address, sweep_dir):
    return head.start(
        _DREAMER, "sweep", *OPTIONS, "--sweep-dir", sweep_dir, "--ray-address", address
    )


def finish(process):
    """(exit code, what it printed)."""
    try:
        output = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.kill()
        output = process.communicate()
    return process.returncode, "".join(output)


def wait_for_words(process, path, words, timeout_s=200):
    give_up_s = time.monotonic() + timeout_s
    while not (path.exists() and words in path.read_text()):
        assert process.poll() is None, finish(process)
        assert time.monotonic() < give_up_s
        time.sleep(0.1)


@pytest.fixture(scope="module")
def swept(directory):
    """Two sweeps on two hosts: ((exit code, output), directory as seen from outside) of each."""
    with hosts(directory / "sweep", 2) as (head, other):
        address = start_ray([head, other], [None, None])
        own_disk = finish(sweep(head, address, directory / "sweep" / "disk" / "own"))
        shared = SweepDirectory(directory / "shared")
        process = sweep(head, address, shared.root)
        wait_for_words(process, shared.log, f"started on {other.name}")
        metrics = [shared.run_dir(key) / "metrics.jsonl" for key in sorted(KEYS)]
        while not all(path.exists() for path in metrics):
            assert process.poll() is None, finish(process)
            time.sleep(0.1)
        other.power_off()
        yield (
            (own_disk, SweepDirectory(head.directory / "disk" / "own")),
            (finish(process), shared),
        )


def assert_all_done(exit_code, output, sweep_directory):
    assert exit_code == 0, output
    assert set(sweep_directory.finished()) == KEYS
    for key in KEYS:
        run_dir = sweep_directory.run_dir(key)
        assert checkpoint_counts(run_dir) == (STEPS, due(STEPS))
        assert stored_policy_steps(run_dir)[0] == STEPS


def test_a_host_that_does_not_see_the_directory_is_named_and_left_out(swept):
    (ended, sweep_directory), _ = swept
    assert_all_done(*ended, sweep_directory)
    told = sweep_directory.log.read_text()
    assert told.count("Node h2 does not see") == 1
    assert ": failed" not in told


def test_the_runs_of_a_host_that_loses_power_resume_on_another(swept):
    _, (ended, sweep_directory) = swept
    assert_all_done(*ended, sweep_directory)
    told = sweep_directory.log.read_text()
    assert "its worker or node was lost" in told
    assert ": failed" not in told
