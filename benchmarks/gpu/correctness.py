"""Every form of a gradient step against eager float32."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from benchmarks.gpu.variants import (
    Keep,
    attempt,
    fresh,
    name_of,
    variants,
    with_batch,
    with_learner,
)
from dreamer_core.agent.agent import DreamerAgent, NonFiniteLoss
from dreamer_core.agent.update import OPTIMIZERS
from dreamer_core.bench.learner import random_batch
from dreamer_core.config import Config
from dreamer_core.model.distributions import CategoricalLatent
from dreamer_core.types import Batch, EnvSpec

LOSSES = ("world_model_loss", "image_loss", "reward_loss", "kl_loss", "actor_loss", "critic_loss")
NORMS = tuple(f"{name}_gradient_norm" for name in OPTIMIZERS)
# Largest relative error of a loss or norm against eager float32 in the first step, by precision.
# The actor's loss is a small difference of large terms and is compared on the scale of the
# critic's target instead.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
DRIFT_STEPS = 200
# Captured weights may differ from eager ones by this many times what bfloat16 itself changes.
DRIFT_TOLERANCE = 2.0


class PlainLatent(CategoricalLatent):
    """The same family, which the written-out scan does not know."""


def correctness(config: Config, spec: EnvSpec, device: str, keep: Keep) -> None:
    """Every variant against eager float32, the scan, a step that is not finite, drift."""
    batch = random_batch(config, spec)
    reference, *others = variants(device)
    theirs = first_metrics(config, spec, reference, batch)
    for learner in [reference, *others]:
        keep(
            f"{name_of(learner)} against eager float32",
            attempt(compare, config, spec, learner, batch, theirs),
        )
    keep("scan against plain recurrence", attempt(scan_error, config, spec, device, batch))
    chosen = variants(device)[-1]
    keep("not finite", attempt(refusal, config, spec, chosen, batch))
    keep("drift", attempt(drift, config, spec, device))


def first_metrics(
    config: Config, spec: EnvSpec, learner: dict[str, str], batch: Batch
) -> dict[str, float]:
    """Metrics of the first gradient step of a new agent."""
    agent = DreamerAgent(with_learner(config, **learner), spec)
    metrics = {k: float(v) for k, v in agent.train_step(batch).items()}
    agent.check()
    return metrics


def compare(
    config: Config,
    spec: EnvSpec,
    learner: dict[str, str],
    batch: Batch,
    theirs: dict[str, float],
) -> dict[str, Any]:
    """Losses and gradient norms of one variant's first step against the reference."""
    ours = first_metrics(config, spec, learner, batch)
    errors = {name: relative(ours, theirs, name) for name in (*LOSSES, *NORMS)}
    tolerance = TOLERANCE[learner["precision"]]
    largest = max(errors.values())
    return {
        "largest_error": largest,
        "tolerance": tolerance,
        "passed": largest <= tolerance,
        "errors": errors,
    }


def refusal(config: Config, spec: EnvSpec, learner: dict[str, str], batch: Batch) -> dict[str, Any]:
    """A reward that is not a number is named, and changes no weight."""
    agent = DreamerAgent(with_learner(config, **learner), spec)
    agent.train_step(batch)
    before = weights_of(agent)
    bad = dataclasses.replace(batch, reward=batch.reward.copy())
    bad.reward[0, 0] = float("nan")
    message = ""
    try:
        agent.train_step(bad)
        agent.check()
    except NonFiniteLoss as error:
        message = str(error)
    is_same = torch.equal(before, weights_of(agent))
    return {"message": message, "passed": is_same and "reward is not finite" in message}


def weights_of(agent: DreamerAgent) -> torch.Tensor:
    """Every parameter in one vector on the host."""
    parameters = [*agent.world_model.parameters(), *agent.behavior.parameters()]
    return torch.cat([p.detach().flatten().cpu() for p in parameters])


def relative(ours: dict[str, float], theirs: dict[str, float], name: str) -> float:
    """Relative error of a metric; see TOLERANCE for the actor's loss."""
    a, b = ours[f"dreamer_{name}"], theirs[f"dreamer_{name}"]
    scale = max(abs(b), 1e-3)
    if name == "actor_loss":
        scale = max(scale, abs(theirs["dreamer_actor_target_mean"]), 0.1)
    return abs(a - b) / scale


def scan_error(config: Config, spec: EnvSpec, device: str, batch: Batch) -> dict[str, Any]:
    """Gradient norms of the world model by the scan and by plain autograd, float32."""
    norms: list[float] = []
    for is_plain in (False, True):
        learner = {"device": device, "precision": "float32", "execution": "eager"}
        agent = DreamerAgent(with_learner(config, **learner), spec)
        if is_plain:
            rssm = agent.world_model.rssm
            rssm.latent = PlainLatent(*rssm.latent.stats_shape)
        norms.append(float(agent.train_step(batch)["dreamer_world_model_gradient_norm"]))
    error = abs(norms[0] - norms[1]) / norms[1]
    return {"relative_error_of_gradient_norm": error, "passed": error < TOLERANCE["float32"]}


def drift(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """Distance of weights after many steps: captured from eager, beside bfloat16 from float32."""
    steps = DRIFT_STEPS if device == "cuda" else 5
    small = with_batch(config, min(8, config.replay.batch_size), config.replay.batch_length)
    vectors: dict[str, torch.Tensor] = {}
    for learner in variants(device):
        fresh()
        agent = DreamerAgent(with_learner(small, **learner), spec)
        for seed in range(steps):
            agent.train_step(random_batch(small, spec, seed))
        agent.check()
        vectors[name_of(learner)] = weights_of(agent)
        del agent
    exact = vectors["eager float32"]
    noise = distance(vectors.get("eager bfloat16", exact), exact)
    captured = {
        name: distance(vector, vectors.get("eager bfloat16", exact))
        for name, vector in vectors.items()
        if not name.startswith("eager") and name.endswith("bfloat16")
    }
    return {
        "steps": steps,
        "bfloat16_from_float32": noise,
        "captured_from_eager": captured,
        "passed": all(value <= DRIFT_TOLERANCE * noise for value in captured.values()),
    }


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative distance of two vectors."""
    return float((ours - theirs).norm() / theirs.norm())
