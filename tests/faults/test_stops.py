"""Notices that a machine is about to go, and two commands on one run directory."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.runs import (
    CATCH,
    NO_EVALUATION,
    Run,
    assert_one_paragraph,
    checkpoint_counts,
    counted,
    due,
    free_port,
    stored_policy_steps,
)
from tests.services.failing_env import CALM_STEPS

pytestmark = pytest.mark.faults

STOPPED_WITHIN_S = 60.0
"""What containers are given. Half a minute is promised where a machine has nothing else to do; a
stop that left it to the limits for the services' work would take 2 minutes, or 5."""
SLOW = (
    *("--replay.batch-size", "16", "--replay.batch-length", "50", "--world-model.conv-depth", "48"),
    *("--world-model.deter", "600", "--schedule.prefill-policy-steps", "60"),
)
"""Gradient steps of seconds."""


@pytest.mark.parametrize("options", [(), SLOW], ids=["fast steps", "slow steps"])
def test_sigterm_leaves_a_checkpoint_of_everything(tmp_path, options):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, *options, "--steps", "50000",
              "--schedule.report-interval-gradient-steps", "1")  # fmt: skip
    run.wait_for("dreamer_gradient_steps_total", least=3)
    run.terminate()
    assert run.finish(timeout_s=STOPPED_WITHIN_S) == 143, run.stderr
    policy_steps, gradient_steps = checkpoint_counts(run.run_dir)
    assert stored_policy_steps(run.run_dir) == (policy_steps, policy_steps)
    assert gradient_steps >= 3


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_to_all_processes_at_once_leaves_a_checkpoint_of_everything(tmp_path, number):
    """SIGHUP when a terminal goes away; SIGTERM from systemd and when a machine shuts down."""
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", "50000")
    run.wait_for("dreamer_gradient_steps_total", least=3)
    run.signal_all(number)
    assert run.finish(timeout_s=STOPPED_WITHIN_S) == 128 + number, run.stderr
    policy_steps, gradient_steps = checkpoint_counts(run.run_dir)
    assert stored_policy_steps(run.run_dir) == (policy_steps, policy_steps)
    assert gradient_steps >= 3


def test_sigterm_leaves_a_checkpoint_even_while_the_environment_hangs(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", "500",
              "--env.task", "tests.services.failing_env:make_hanging_env")  # fmt: skip
    run.wait_for("dreamer_policy_steps_total", least=CALM_STEPS)  # the next one hangs
    run.terminate()
    assert run.finish(timeout_s=STOPPED_WITHIN_S) == 143, run.stderr
    policy_steps, gradient_steps = checkpoint_counts(run.run_dir)
    assert stored_policy_steps(run.run_dir) == (policy_steps, policy_steps)
    assert policy_steps == CALM_STEPS and 0 < gradient_steps <= due(policy_steps)


def test_a_second_command_on_a_run_directory_is_refused_with_the_holders_name(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", "50000")
    run.wait_for("dreamer_policy_steps_total")
    second = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", "50000")
    assert second.finish() == 2
    assert_one_paragraph(second, f"is in use by process {run.pid} on", "--run-dir")
    run.interrupt()
    assert run.finish() == 130, run.stderr


def test_sigterm_leaves_a_checkpoint_even_while_the_replay_is_frozen(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", "50000")
    run.wait_for("dreamer_gradient_steps_total", least=5)
    os.kill(run.process_id("replay"), signal.SIGSTOP)
    run.terminate()
    assert run.finish(timeout_s=STOPPED_WITHIN_S) == 143, run.stderr
    policy_steps, gradient_steps = checkpoint_counts(run.run_dir)
    assert stored_policy_steps(run.run_dir) == (policy_steps, policy_steps)
    assert gradient_steps >= 5


def test_sigterm_right_after_a_slow_first_step_began_leaves_a_checkpoint(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, *SLOW, "--steps", "50000",
              "--schedule.report-interval-gradient-steps", "1")  # fmt: skip
    run.wait_for("dreamer_policy_steps_total", least=61)
    run.terminate()
    assert run.finish(timeout_s=STOPPED_WITHIN_S) == 143, run.stderr
    policy_steps, _ = checkpoint_counts(run.run_dir)
    assert stored_policy_steps(run.run_dir) == (policy_steps, policy_steps)


@contextlib.contextmanager
def head():
    """A head as KubeRay and a user start it; yields its process, its address and its variables."""
    address = f"127.0.0.2:{free_port()}"
    directory = tempfile.mkdtemp(dir="/tmp")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    host, port = address.split(":")
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("ray"), "start", "--head", "--block"),
            *(f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={directory}"),
            *("--num-cpus=4", "--object-store-memory=100000000", "--include-dashboard=false"),
        ],
        env={**os.environ, **token},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("--block" in line for line in process.stdout), "Ray did not start"
        yield process, address, token
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=200)
        shutil.rmtree(directory, ignore_errors=True)


def test_sigterm_to_the_head_leaves_a_checkpoint_of_everything():
    """Shows, as no smaller one does, that Ray drains long enough and that we see it do so."""
    with tempfile.TemporaryDirectory() as place, head() as (ray, address, token):
        run = Run("train", Path(place) / "run", *CATCH, *NO_EVALUATION, "--steps", "50000",
                  "--runtime.ray-address", address, **token)  # fmt: skip
        run.wait_for("dreamer_gradient_steps_total", least=5)
        ray.terminate()
        assert run.finish(timeout_s=STOPPED_WITHIN_S) == 143, run.stderr
        policy_steps, gradient_steps = checkpoint_counts(run.run_dir)
        assert gradient_steps == counted(run.run_dir, "dreamer_gradient_steps_total")[-1] >= 5
        assert stored_policy_steps(run.run_dir) == (policy_steps, policy_steps)
