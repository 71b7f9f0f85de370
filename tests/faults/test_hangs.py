"""What does not die but hangs: found by its time limit, ended, replaced."""

import os
import re
import signal

import pytest

from tests.runs import (
    CATCH,
    COLLECT_STEPS,
    NO_EVALUATION,
    OFTEN,
    Run,
    checkpoint_counts,
    due,
    restarts,
    stored_policy_steps,
)
from tests.services.failing_env import CALM_STEPS

pytestmark = pytest.mark.faults

LIMIT_S = "25"
"""A new service is started within it, too: Python, PyTorch and the environment."""


def test_an_environment_that_hangs_is_replaced_after_its_time_limit(tmp_path):
    steps = 2 * CALM_STEPS - 2 * COLLECT_STEPS
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", str(steps),
              "--env.task", "tests.services.failing_env:make_hanging_env",
              "--runtime.collect-timeout-s", LIMIT_S)  # fmt: skip
    assert run.finish() == 0, run.stderr
    assert restarts(run.run_dir) == {"collector": 1}
    log = (run.run_dir / "supervisor.log").read_text()
    assert re.search(rf"the collector was silent for \d+ s, but {LIMIT_S} s is the limit", log)
    assert checkpoint_counts(run.run_dir) == (steps, due(steps))
    assert stored_policy_steps(run.run_dir) == (steps, steps)


def test_a_process_that_is_frozen_is_replaced_after_its_time_limit(tmp_path):
    steps, hold = 2000, tmp_path / "hold"
    hold.write_text("100")  # so that it does not come to its end before
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, *OFTEN, "--steps", str(steps),
              "--env.task", "tests.services.failing_env:make_obedient_env",
              "--runtime.collect-timeout-s", LIMIT_S, "--runtime.call-timeout-s", LIMIT_S,
              OBEDIENT_DIR=str(tmp_path))  # fmt: skip
    for service, steps_so_far in (("learner", 100), ("replay", 150), ("collector", 200)):
        samples = run.wait_for("dreamer_policy_steps_total", least=steps_so_far)
        os.kill(run.process_id(service), signal.SIGSTOP)
        hold.write_text(str(steps_so_far + 50))
        before = samples["dreamer_restarts_total", service]
        run.wait_for("dreamer_restarts_total", service, least=before + 1)
    hold.unlink()
    assert run.finish() == 0, run.stderr
    assert checkpoint_counts(run.run_dir) == (steps, due(steps))
    assert stored_policy_steps(run.run_dir) == (steps, steps)
    assert not run.survivors()
