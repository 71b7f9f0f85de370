"""Small real objects that the tests of the algorithm share: configs, batches, agents, gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.device import to_tensors
from dreamer_core.config import Config
from dreamer_core.fields import from_dict, to_dict
from dreamer_core.model.behavior import Behavior
from dreamer_core.model.world_model import TensorBatch, WorldModel, WorldModelLoss
from dreamer_core.presets import preset
from dreamer_core.types import Batch, EnvSpec

DISCRETE = EnvSpec(image_shape=(64, 64, 1), action_size=3, is_discrete=True, action_names=None)
CONTINUOUS = dataclasses.replace(DISCRETE, action_size=2, is_discrete=False)
CHOICES = dataclasses.replace(DISCRETE, action_size=7, action_classes=(2, 3, 2))
BOTH = dataclasses.replace(DISCRETE, vector_size=5)
VECTOR = dataclasses.replace(BOTH, image_shape=(64, 64, 0))
CPU = torch.device("cpu")

# Written out here, not taken from preset `debug`: tuning a preset must not move golden losses.
SIZES: dict[str, Any] = {
    "world_model.deter": 16,
    "world_model.hidden": 16,
    "world_model.stoch": 4,
    "world_model.classes": 4,
    "world_model.conv_depth": 2,
    "world_model.head_layers": 2,
    "world_model.head_units": 8,
    "world_model.optimizer.learning_rate": 1e-3,
    "behavior.horizon": 4,
    "behavior.layers": 2,
    "behavior.units": 8,
    "behavior.actor_optimizer.learning_rate": 4e-4,
    "behavior.critic_optimizer.learning_rate": 1e-3,
    "replay.batch_size": 3,
    "replay.batch_length": 8,
    "learner.device": "cpu",
    "learner.num_threads": 1,
}
# A short game of a few pixels, played through suite `gymnasium`.
CATCH: dict[str, Any] = {
    "env.suite": "gymnasium",
    "env.task": "tests.learning.catch:make_env",
    "env.action_repeat": 1,
    "env.time_limit_steps": None,
    "learner.device": "cpu",
}


def changed(config: Config, values: dict[str, Any]) -> Config:
    """Returns the config with the values at dotted paths put in, all at once."""
    tree = to_dict(config)
    for path, value in values.items():
        *sections, leaf = path.split(".")
        node = tree
        for section in sections:
            node = node[section]
        node[leaf] = value
    return from_dict(Config, tree)


def small(name: str = "atari", **sections: dict[str, Any]) -> Config:
    """The named preset at SIZES, with fields of sections changed."""
    values = {f"{section}.{key}": v for section, vs in sections.items() for key, v in vs.items()}
    return changed(preset(name), {**SIZES, **values})


CONTINUOUS_CONTROL = small(
    world_model={"latent": "gaussian", "reward_transform": "identity"},
    behavior={"reinforce_share": 0.0, "entropy_scale": 1e-4},
)
"""Of tasks with continuous actions: Gaussian latents, trained by dynamics gradients."""


def make_batch(spec: EnvSpec = DISCRETE, *, seed: int = 0, size: tuple[int, int] = (3, 8)) -> Batch:
    """Random rows with a reset inside the first sequence and an end inside the last."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (*size, spec.action_size)).astype(np.float32)
    if spec.is_discrete:
        parts = np.split(actions, np.cumsum(spec.action_classes or (0,))[:-1], -1)
        one_hot = [np.eye(part.shape[-1], dtype=np.float32)[part.argmax(-1)] for part in parts]
        actions = np.concatenate(one_hot, -1)
    is_first, is_terminal = np.zeros(size, bool), np.zeros(size, bool)
    is_first[:, 0], is_first[0, size[1] // 2], is_terminal[-1, -1] = True, True, True
    return Batch(
        image=rng.integers(0, 256, (*size, *spec.image_shape), np.uint8),
        prev_action=actions * ~is_first[..., None],
        reward=rng.normal(size=size).astype(np.float32),
        is_first=is_first,
        is_terminal=is_terminal,
        vector=rng.normal(size=(*size, spec.vector_size)).astype(np.float32)
        if spec.vector_size
        else None,
    )


def make_tensors(spec: EnvSpec = DISCRETE, **options: Any) -> TensorBatch:
    return to_tensors(make_batch(spec, **options), CPU)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_world_model(config: Config, spec: EnvSpec = DISCRETE) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(
        config.world_model,
        channels=spec.image_shape[-1],
        action_size=spec.action_size,
        discount=config.behavior.discount,
        vector_size=spec.vector_size,
    )


def make_behavior(
    config: Config, model: WorldModel, spec: EnvSpec = DISCRETE, kind: type[Behavior] = Behavior
) -> Behavior:
    torch.manual_seed(1)
    return kind(
        config.behavior,
        feat_size=model.rssm.feat_size,
        action_size=spec.action_size,
        is_discrete=spec.is_discrete,
        classes=spec.action_classes,
    )


def model_loss(model: WorldModel, data: TensorBatch, seed: int = 0) -> WorldModelLoss:
    return model.loss(data, model.rssm.latent.noise(data.reward.shape, generator(seed)))


def make_agent(spec=DISCRETE, config=None) -> DreamerAgent:
    return DreamerAgent(config or small(), spec)


def train(agent: DreamerAgent, batches: Iterable[Batch]) -> list[dict[str, Tensor]]:
    return [agent.train_step(batch) for batch in batches]


def make_constant(layer: nn.Linear | nn.ConvTranspose2d, *bias: float) -> None:
    """Makes a layer put out its bias whatever comes in."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor(bias))


def gradient_size(loss: Tensor, *modules: nn.Module) -> float:
    """Largest gradient of the loss on any parameter of the modules; 0 where none is connected."""
    parameters = [p for module in modules for p in module.parameters()]
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return max((float(g.abs().max()) for g in gradients if g is not None), default=0.0)


def parameters_of(module: nn.Module) -> Tensor:
    """A copy of all parameters in one vector."""
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def sigmoid(x: Any) -> Any:
    """Logistic function in numpy float64."""
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def softmax(x: Any) -> Any:
    """Softmax over the last axis in numpy float64."""
    exponent = np.exp(np.asarray(x, np.float64))
    return exponent / exponent.sum(-1, keepdims=True)


def elu(x: Any) -> Any:
    """Exponential linear unit in numpy float64."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def to_float64(x: Tensor) -> Any:
    return x.detach().numpy().astype(np.float64)
