"""Times the environment alone."""

from __future__ import annotations

import statistics

import numpy as np

from dreamer_core.bench.measure import Measurement, measure, summary
from dreamer_core.config import Config
from dreamer_core.envs.suites import opened
from dreamer_core.fields import to_dict
from dreamer_core.run.rollout import random_action


def bench_env(config: Config, *, seconds: float) -> Measurement:
    """Times environment steps under random play, resets included."""
    rng = np.random.default_rng(0)
    with opened(config.env, seed=0) as env:
        step, frames = env.reset(), env.spec.frames_per_policy_step

        def take() -> None:
            nonlocal step
            step = env.reset() if step.is_last else env.step(random_action(rng, env))

        samples = measure(take, seconds=seconds)
    mean = statistics.fmean(samples)
    return Measurement(
        benchmark="env",
        unit=f"policy step of {config.env.task}, {frames} frames",
        **summary(samples),
        details={
            "policy_steps_per_second": 1 / mean,
            "frames_per_second": frames / mean,
        },
        settings=to_dict(config),
    )
