"""What does not die but hangs: found by its time limit, ended, replaced."""

import os
import signal

import pytest

from tests.runs import (
    CATCH,
    COLLECT_STEPS,
    NO_EVALUATION,
    OFTEN,
    TITLES,
    Run,
    checkpoint_counts,
    due,
    restarts,
    stored_policy_steps,
)
from tests.services.failing_env import CALM_STEPS

pytestmark = pytest.mark.faults

LIMIT_S = "10"
"""A new collector is started within it, too: Python, PyTorch and the environment."""


def test_an_environment_that_hangs_is_replaced_after_its_time_limit(tmp_path):
    steps = 2 * CALM_STEPS - 2 * COLLECT_STEPS
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", str(steps),
              "--env.task", "tests.services.failing_env:make_hanging_env",
              "--runtime.collect-timeout-s", LIMIT_S)  # fmt: skip
    assert run.finish() == 0, run.stderr
    assert restarts(run.run_dir) == {"collector": 1}
    log = (run.run_dir / "supervisor.log").read_text()
    assert f"the collector was silent for {LIMIT_S} s" in log
    assert checkpoint_counts(run.run_dir) == (steps, due(steps))
    assert stored_policy_steps(run.run_dir) == (steps, steps)


@pytest.mark.parametrize("service", ["learner", "collector", "replay"])
def test_a_process_that_is_frozen_is_replaced_after_its_time_limit(tmp_path, service):
    steps, hold = 600, tmp_path / "hold"
    hold.write_text("100")  # so that it does not come to its end before
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, *OFTEN, "--steps", str(steps),
              "--env.task", "tests.services.failing_env:make_obedient_env",
              "--runtime.collect-timeout-s", LIMIT_S, "--runtime.call-timeout-s", LIMIT_S,
              OBEDIENT_DIR=str(tmp_path))  # fmt: skip
    run.wait_for("dreamer_gradient_steps_total", least=5)
    (pid,) = (p for p, line in run.processes().items() if line.startswith(TITLES[service]))
    os.kill(pid, signal.SIGSTOP)
    hold.unlink()
    run.wait_for("dreamer_restarts_total", service)
    assert run.finish() == 0, run.stderr
    assert checkpoint_counts(run.run_dir) == (steps, due(steps))
    assert stored_policy_steps(run.run_dir) == (steps, steps)
    assert not run.survivors()
