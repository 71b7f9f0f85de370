"""A policy step by CPU threads, on the card, and on the card beside the learner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.variants import Work, with_learner
from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.captured_policy import CapturedPolicy
from dreamer_core.agent.policy import PolicyNetwork, step_generator
from dreamer_core.agent.threads import num_threads
from dreamer_core.bench.learner import random_batch
from dreamer_core.bench.measure import measure, summary
from dreamer_core.config import Config
from dreamer_core.types import EnvSpec

STEPS = 200
LEAST_EQUAL = 0.98  # of actions; rounding may turn a draw that is nearly a tie


def acting(config: Config, spec: EnvSpec, device: str, seconds: float) -> dict[str, Work]:
    """Times of policy steps; on a card also the actions beside a CPU's."""
    on_cpu = {
        f"policy on {count} threads": partial(time_threads, config, spec, count, seconds)
        for count in ((1, 2, 4, 8) if device == "cuda" else (1,))
    }
    if device == "cpu":
        return on_cpu
    on_card = partial(time_card, config, spec, seconds)
    return {
        **on_cpu,
        "policy on the card, actions": partial(same_actions, config, spec),
        "policy on the card": partial(on_card, is_busy=False),
        "policy on the card beside the learner": partial(on_card, is_busy=True),
    }


def weights(config: Config, spec: EnvSpec) -> DreamerAgent:
    """An agent on the CPU whose snapshot a policy can take."""
    on_cpu = {"device": "cpu", "precision": "auto", "execution": "auto"}
    return DreamerAgent(with_learner(config, **on_cpu), spec)


def stepper(policy: PolicyNetwork, spec: EnvSpec) -> Callable[[], None]:
    """What takes one step of an endless episode of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, *spec.image_shape), dtype=np.uint8)
    vector = np.zeros(spec.vector_size, np.float32)
    state, count = policy.initial(), 0

    def act() -> None:
        nonlocal state, count
        image, generator = images[count % len(images)], step_generator(0, count)
        _, state = policy.act(state, image, generator, "sample", vector=vector)
        count += 1

    return act


def time_threads(config: Config, spec: EnvSpec, count: int, seconds: float) -> dict[str, Any]:
    """On the CPU."""
    policy = PolicyNetwork(config, spec)
    policy.load(weights(config, spec).snapshot())
    with num_threads(count):
        return summary(measure(stepper(policy, spec), seconds=seconds))


def same_actions(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """Share of equal actions, each step from the CPU's state, and the error of h."""
    ours, theirs = CapturedPolicy(config, spec, torch.device("cuda")), PolicyNetwork(config, spec)
    snapshot = weights(config, spec).snapshot()
    ours.load(snapshot)
    theirs.load(snapshot)
    rng = np.random.default_rng(0)
    state, equal, error = theirs.initial(), 0, 0.0
    for index in range(STEPS):
        image = rng.integers(0, 256, spec.image_shape, dtype=np.uint8)
        copied, next_state = ours.act(state, image, step_generator(0, index), "sample")
        action, state = theirs.act(state, image, step_generator(0, index), "sample")
        equal += bool((action == copied).all())
        difference = next_state.model.deter.cpu() - state.model.deter
        error = max(error, float(difference.abs().max()))
    share = equal / STEPS
    return {"passed": share >= LEAST_EQUAL and error < 1e-3, "equal": share, "error_of_h": error}


def time_card(config: Config, spec: EnvSpec, seconds: float, is_busy: bool) -> dict[str, Any]:
    """On the card; beside a learner in another thread if it is busy."""
    policy = CapturedPolicy(config, spec, torch.device("cuda"))
    learner = {"device": "cuda", "precision": "bfloat16", "execution": "captured"}
    agent = DreamerAgent(with_learner(config, **learner), spec)
    policy.load(agent.snapshot())
    act, batch = stepper(policy, spec), random_batch(config, spec)
    act()
    agent.train_step(batch)
    ended = threading.Event()
    steps = 0

    def learn() -> None:
        nonlocal steps
        while not ended.is_set():
            agent.train_step(batch)
            steps += 1
        agent.check()

    thread = threading.Thread(target=learn)
    if is_busy:
        thread.start()
    try:
        found = summary(measure(act, seconds=seconds))
    finally:
        ended.set()
        if is_busy:
            thread.join()
    return {**found, "gradient_steps_beside_it": steps}
