"""A run in lockstep that is killed and resumed computes what one that was never killed computes."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer_core.report.read import read_jsonl
from tests.runs import EXACT, OFTEN, Run, assert_same_run, losses_by_step

CAPACITY_STEPS = {"all kept": 10_000, "old segments evicted": 192}
STEPS = 400


def reached(run_dir, gradient_step):
    """Whether the run's log has come to a gradient step."""
    lines = read_jsonl(run_dir / "metrics.jsonl", tail_bytes=20_000)
    return bool(lines) and lines[-1].gradient_step >= gradient_step


def train(run_dir, options):
    run = Run("local", run_dir, *options)
    assert run.finish() == 0, run.stderr


def train_whole_and_killed(directory, capacity_steps):
    """A run that nobody disturbs, and one that is killed at two random moments."""
    options = (*EXACT, *OFTEN, "--steps", str(STEPS), "--seed", "3",
               "--replay.capacity-steps", str(capacity_steps))  # fmt: skip
    train(directory / "whole", options)
    rng = random.Random(capacity_steps)
    for gradient_step in (8, 40):
        run = Run("local", directory / "killed", *options)
        run.wait_until(lambda step=gradient_step: reached(directory / "killed", step))
        time.sleep(rng.uniform(0, 0.6))
        run.kill("supervisor")
        run.finish()
    train(directory / "killed", options)


def assert_one_value_a_step(run_dir):
    """In metrics.jsonl and in TensorBoard, whatever was taken back."""
    lines = read_jsonl(run_dir / "metrics.jsonl")
    losses = [line.gradient_step for line in lines if "dreamer_kl_nats" in line.values]
    assert losses == sorted(set(losses))
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        frames = [event.step for event in events.Scalars(tag)]
        assert frames == sorted(set(frames)), tag


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Of both runs, by what their replay keeps; each pair takes one processor."""
    found = {name: tmp_path_factory.mktemp("kept") for name in CAPACITY_STEPS}
    with ThreadPoolExecutor() as pool:
        list(pool.map(train_whole_and_killed, found.values(), CAPACITY_STEPS.values()))
    return found


@pytest.mark.parametrize("kept", CAPACITY_STEPS)
def test_a_local_run_killed_at_random_moments_gives_the_same_losses_and_actions(directories, kept):
    assert_same_run(directories[kept] / "killed", directories[kept] / "whole")
    assert_one_value_a_step(directories[kept] / "killed")
    assert len(losses_by_step(directories[kept] / "whole")) == (STEPS - 50) // 4
