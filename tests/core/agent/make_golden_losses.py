"""Writes golden_losses.json: the losses of 50 seeded gradient steps on the CPU.

    .venv/bin/python -m tests.core.agent.make_golden_losses

A refactor leaves the file as it is. A change of numerics writes it anew, says so in the CHANGELOG
under **[numerics]** and shows a learning curve.

The agent is small (small.SIZES), with mixed actor gradients and both schedules of `atari_schedules`
shortened to the run, and renews its slow critic every 10 steps, so that every formula takes part.
"""

from __future__ import annotations

import json
from pathlib import Path

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.threads import num_threads
from tests.core.small import DISCRETE, make_batch, small

PATH = Path(__file__).with_name("golden_losses.json")
LOSSES = ("world_model", "image", "reward", "discount", "kl", "actor", "critic")
NUM_STEPS = 50
POLICY_STEPS_PER_GRADIENT_STEP = 4


def make_agent() -> DreamerAgent:
    """The agent whose losses are kept."""
    behavior = {
        "schedule_policy_steps": NUM_STEPS * POLICY_STEPS_PER_GRADIENT_STEP,
        "slow_critic_interval_gradient_steps": 10,
    }
    return DreamerAgent(small("atari_schedules", behavior=behavior), DISCRETE)


def compute(threads: int = 1) -> dict[str, list[float]]:
    """Losses of each gradient step by name, on random batches that are a new one each step."""
    agent, losses = make_agent(), {name: list[float]() for name in LOSSES}
    with num_threads(threads):
        for step in range(NUM_STEPS):
            metrics = agent.train_step(
                make_batch(seed=step), policy_step=step * POLICY_STEPS_PER_GRADIENT_STEP
            )
            for name, values in losses.items():
                values.append(metrics[f"dreamer_{name}_loss"].item())
    return losses


if __name__ == "__main__":
    PATH.write_text(json.dumps(compute(), indent=1) + "\n")
