"""Every form of a gradient step against eager float32."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.variants import Work, eager, name_of, variants, with_learner
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
TOLERANCE = {"float32": 1e-3, "tf32": 0.01, "bfloat16": 0.05}
DRIFT_STEPS = {"cuda": 20, "cpu": 5}
LONG_DRIFT_STEPS = 200
# Weights may differ from those of the same precision in eager form by this many times what the
# precision itself changes.
DRIFT_TOLERANCE = 2.0
_BATCHES = 8


class PlainLatent(CategoricalLatent):
    """The same family, which the written-out scan does not know."""


def correctness(config: Config, spec: EnvSpec, device: str, _seconds: float) -> dict[str, Work]:
    """Every form against eager float32; captured bfloat16 for many steps; scan and refusal."""
    forms = {f"{name_of(form)} against eager float32": form for form in variants(device)}
    steps = DRIFT_STEPS[device]
    found = {name: partial(compare, config, spec, form, steps) for name, form in forms.items()}
    long = {"device": device, "precision": "bfloat16", "execution": "captured"}
    if long in forms.values():
        name = f"{name_of(long)} for {LONG_DRIFT_STEPS} steps"
        found[name] = partial(compare, config, spec, long, LONG_DRIFT_STEPS)
    return {
        **found,
        "scan against plain recurrence": partial(scan_error, config, spec, device),
        "not finite": partial(refusal, config, spec, device),
    }


def compare(
    config: Config, spec: EnvSpec, learner: dict[str, str], num_steps: int
) -> dict[str, Any]:
    """One variant beside eager float32 and the eager form of its own precision.

    Returns:
        Relative errors of losses and gradient norms in the first step, and how far the weights have
        drifted after many.
    """
    agents = {
        "exact": DreamerAgent(with_learner(config, **eager(learner, "float32")), spec),
        "eager": DreamerAgent(with_learner(config, **eager(learner)), spec),
    }
    batches = [random_batch(config, spec, seed) for seed in range(_BATCHES)]
    theirs = step(agents["exact"], batches[0])
    step(agents["eager"], batches[0])
    # Last, since what it sets for the whole process is what it is to be run with.
    ours = agents["ours"] = DreamerAgent(with_learner(config, **learner), spec)
    metrics = step(ours, batches[0])
    errors = {name: relative(metrics, theirs, name) for name in (*LOSSES, *NORMS)}
    for agent in agents.values():
        agent.execution.set_backends()
        for index in range(1, num_steps):
            agent.train_step(batches[index % _BATCHES])
        agent.check()
    exact, same, own = (weights_of(agents[name]) for name in ("exact", "eager", "ours"))
    noise, drifted = distance(same, exact), distance(own, same)
    tolerance = TOLERANCE[learner["precision"]]
    is_close = max(errors.values()) <= tolerance
    is_float32 = learner["precision"] == "float32"
    allowed = 0.02 if is_float32 else DRIFT_TOLERANCE * noise
    return {
        "passed": is_close and drifted <= allowed,
        "tolerance": tolerance,
        "errors": errors,
        "drift": {"steps": num_steps, "from_eager": drifted, "of_precision": noise},
    }


def step(agent: DreamerAgent, batch: Batch) -> dict[str, float]:
    """Metrics of a gradient step."""
    agent.execution.set_backends()
    metrics = {k: float(v) for k, v in agent.train_step(batch).items()}
    agent.check()
    return metrics


def refusal(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """A reward that is not a number is named, and changes no weight."""
    captured = next((x for x in variants(device) if x["execution"] == "captured"), {})
    agent = DreamerAgent(with_learner(config, **{"device": device, **captured}), spec)
    batch = random_batch(config, spec)
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


def scan_error(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """Gradient norms of the world model by the scan and by plain autograd, float32."""
    norms, batch = list[float](), random_batch(config, spec)
    for is_plain in (False, True):
        learner = {"device": device, "precision": "float32", "execution": "eager"}
        agent = DreamerAgent(with_learner(config, **learner), spec)
        if is_plain:
            rssm = agent.world_model.rssm
            rssm.latent = PlainLatent(*rssm.latent.stats_shape)
        norms.append(float(agent.train_step(batch)["dreamer_world_model_gradient_norm"]))
    error = abs(norms[0] - norms[1]) / norms[1]
    return {"relative_error_of_gradient_norm": error, "passed": error < TOLERANCE["float32"]}


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative distance of two vectors."""
    return float((ours - theirs).norm() / theirs.norm())
