"""In lockstep a run on Atari is the same run, bit for bit, whatever was killed in its middle."""

import random
import time

import pytest

from tests.runs import EXACT, OFTEN, Run, assert_same_run, restarts

pytestmark = pytest.mark.faults

STEPS = 600
OPTIONS = (
    *EXACT,
    *OFTEN,
    *("--steps", str(STEPS), "--seed", "5", "--env.time-limit-steps", "90"),
    *("--replay.capacity-steps", "256", "--evaluation.interval-frames", "600"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody disturbs, in one process."""
    run = Run("local", tmp_path_factory.mktemp("whole") / "run", *OPTIONS[:-2])
    assert run.finish() == 0, run.stderr
    return run.run_dir


def start(run_dir):
    return Run("train", run_dir, *OPTIONS, "--lockstep")


def test_a_run_whose_command_is_killed_three_times_is_the_same_run(tmp_path, whole):
    rng = random.Random(0)
    for gradient_step in (5, 20, 40):  # of 137, so that it does not come to its end before
        run = start(tmp_path / "run")
        run.wait_for("dreamer_gradient_steps_total", least=gradient_step)
        time.sleep(rng.uniform(0, 0.2))
        run.kill("supervisor")
        run.finish()
    run = start(tmp_path / "run")
    assert run.finish() == 0, run.stderr
    assert_same_run(tmp_path / "run", whole)


def test_a_run_of_which_every_service_is_killed_is_the_same_run(tmp_path, whole):
    rng = random.Random(1)
    run = start(tmp_path / "run")
    for service in ("learner", "collector", "replay"):
        samples = run.wait_for("dreamer_gradient_steps_total", least=5)
        time.sleep(rng.uniform(0, 0.2))
        run.kill(service)
        run.wait_for("dreamer_restarts_total", service)
        trained = samples["dreamer_gradient_steps_total",]
        run.wait_for("dreamer_gradient_steps_total", least=trained + 3)
    assert run.finish() == 0, run.stderr
    assert_same_run(tmp_path / "run", whole)
    assert set(restarts(tmp_path / "run")) == {"learner", "collector", "replay"}
