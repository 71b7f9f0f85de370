"""Times policy steps of one image, as the collector takes them."""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import torch

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork, step_generator
from dreamer_core.agent.threads import num_threads
from dreamer_core.bench.flops import update_flops
from dreamer_core.bench.measure import Measurement, matrix_rate, measure, read_bandwidth, summary
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.fields import to_dict


def bench_policy(config: Config, *, seconds: float) -> Measurement:
    """Times policy steps of one image on one thread, as the collector takes them."""
    spec = environment_spec(config.env)
    policy = PolicyNetwork(config, spec)
    agent = DreamerAgent(
        dataclasses.replace(config, learner=dataclasses.replace(config.learner, device="cpu")), spec
    )
    policy.load(agent.snapshot())
    image = np.random.default_rng(0).integers(0, 256, spec.image_shape, dtype=np.uint8)
    vector = np.zeros(spec.vector_size, np.float32)
    state, steps = policy.initial(), 0

    def act() -> None:
        nonlocal state, steps
        generator = step_generator(0, steps)
        _, state = policy.act(state, image, generator, "sample", vector=vector)
        steps += 1

    with num_threads(1):
        samples = measure(act, seconds=seconds)
        rate = matrix_rate(torch.device("cpu"), torch.float32)
    # The part of the layers on z that a one-hot z leaves unread is not counted.
    sizes = config.world_model
    skipped = sizes.stoch * (sizes.classes - 1) if sizes.latent == "categorical" else 0
    parameters = sum(
        p.numel() for p in PolicyNetwork.needed(dict(policy.named_parameters())).values()
    )
    parameters -= skipped * (sizes.hidden + config.behavior.units)
    bandwidth = read_bandwidth(parameters * 4)
    encoder = update_flops(config, spec)["encoder"] / 3
    encoder /= config.replay.batch_size * config.replay.batch_length
    dense = 2 * (parameters - sum(p.numel() for p in policy.encoder.parameters()))
    return Measurement(
        benchmark="policy",
        unit="policy step of one image, one thread",
        **summary(samples),
        floor_s=max(parameters * 4 / bandwidth, (encoder + dense) / rate),
        floor=(
            f"the larger of {parameters * 4 / 1e6:.0f} MB of weights at {bandwidth / 1e9:.0f} GB/s "
            f"and {(encoder + dense) / 1e6:.0f} MFLOP at {rate / 1e9:.0f} GFLOP/s"
        ),
        details={"policy_steps_per_second": 1 / statistics.median(samples)},
        settings=to_dict(config),
    )
