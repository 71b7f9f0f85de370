"""A run in lockstep that is killed and resumed computes what one that was never killed computes."""

import random
import time

import pytest

from dreamer_core.report.read import read_jsonl
from tests.runs import EXACT, OFTEN, Run, assert_same_run, losses_by_step


def reached(run_dir, gradient_step):
    """Whether the run's log has come to a gradient step."""
    lines = read_jsonl(run_dir / "metrics.jsonl", tail_bytes=20_000)
    return bool(lines) and lines[-1].gradient_step >= gradient_step


@pytest.mark.parametrize("capacity_steps", [10_000, 192], ids=["all kept", "old segments evicted"])
def test_a_local_run_killed_at_random_moments_gives_the_same_losses_and_actions(
    tmp_path, capacity_steps
):
    options = (*EXACT, *OFTEN, "--steps", "400", "--seed", "3",
               "--replay.capacity-steps", str(capacity_steps))  # fmt: skip
    whole = Run("local", tmp_path / "whole", *options)
    assert whole.finish() == 0, whole.stderr
    rng = random.Random(capacity_steps)
    for gradient_step in (8, 40):
        run = Run("local", tmp_path / "killed", *options)
        run.wait_until(lambda step=gradient_step: reached(tmp_path / "killed", step))
        time.sleep(rng.uniform(0, 0.6))
        run.kill("supervisor")
        run.finish()
    run = Run("local", tmp_path / "killed", *options)
    assert run.finish() == 0, run.stderr
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert len(losses_by_step(tmp_path / "whole")) == (400 - 50) // 4
