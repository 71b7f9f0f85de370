"""The authors' released code and this project compute the same numbers.

golden_authors_small.npz holds what the released implementation computes in float32 at a toy size:
random weights, one batch with a reset and two terminals inside, the draws of every sample, every
intermediate value, every loss and every gradient, for the world model, for reinforce, dynamics
and mixed actor gradients, and for the optimiser. Here its weights are loaded, its draws injected,
and each array compared to within 1e-4 of its largest value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamer_core.agent.optimizer import Optimizer
from dreamer_core.config import BehaviorConfig, OptimizerConfig, WorldModelConfig
from dreamer_core.model.behavior import Behavior
from dreamer_core.model.networks import MLP, image_to_float
from dreamer_core.model.rssm import RSSMState
from dreamer_core.model.world_model import TensorBatch, WorldModel, WorldModelLoss

GOLDEN = dict(np.load(Path(__file__).with_name("golden_authors_small.npz")))
TOLERANCE = 1e-4
GAUSSIAN_CONSTANT = 0.5 * math.log(2 * math.pi)
MIXES = {"reinforce": 1.0, "dynamics": 0.0, "both": 0.9}
SIZE = {key: int(GOLDEN[f"dims/{key}"]) for key in ("B", "T", "H", "A", "S", "C")}


def setting(name: str) -> float:
    return float(GOLDEN[f"settings/{name}"])


def golden(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[name])


def assert_close(ours: Tensor, name: str, constant: float = 0.0) -> None:
    """Compares with a golden array; its largest value sets the scale of the tolerance."""
    theirs = golden(name) - constant
    assert ours.shape == theirs.shape, name
    scale = float(golden(name).abs().max())
    worst = float((ours.detach() - theirs).abs().max())
    assert worst <= TOLERANCE * scale, f"{name}: off by {worst:.2e}, largest value {scale:.2e}"


def forcing(draw: Tensor) -> Tensor:
    """Exponential noise under which exactly the given one-hot outcome is drawn."""
    return torch.where(draw > 0.5, 1e-20, 1.0)


# --- The layout of the two codes: (our parameter, their name, their layout to ours) -------------


def dense_kernel(array: Tensor) -> Tensor:
    return array.T


def conv_kernel(array: Tensor) -> Tensor:
    """[height, width, in, out] to [out, in, height, width]."""
    return array.permute(3, 2, 0, 1)


def transposed_kernel(array: Tensor) -> Tensor:
    """[height, width, out, in] to [in, out, height, width]."""
    return array.permute(3, 2, 0, 1)


def layer_map(layer: nn.Module, name: str, kernel=dense_kernel):
    return [(layer.weight, f"{name}/kernel", kernel), (layer.bias, f"{name}/bias", lambda x: x)]


def mlp_map(mlp: MLP, name: str):
    hidden = []
    for i, layer in enumerate(mlp.hidden):
        hidden += layer_map(layer, f"{name}/dense{i}")
    return hidden + layer_map(mlp.out, f"{name}/out/out")


def world_model_map(model: WorldModel):
    rssm = model.rssm
    entries = []
    for i, layer in enumerate(model.encoder.convolutions):
        entries += layer_map(layer, f"encoder/conv{i}", conv_kernel)
    for i, layer in enumerate(model.decoder.convolutions):
        entries += layer_map(layer, f"decoder/conv{i}", transposed_kernel)
    entries += layer_map(model.decoder.dense, "decoder/convin")
    entries += layer_map(rssm.input, "rssm/img_in")
    entries += layer_map(rssm.cell.gates, "rssm/gru")
    entries += [(rssm.cell.norm.weight, "rssm/gru/norm_gamma", lambda x: x)]
    entries += [(rssm.cell.norm.bias, "rssm/gru/norm_beta", lambda x: x)]
    entries += layer_map(rssm.prior_hidden, "rssm/img_out_0")
    entries += layer_map(rssm.prior_stats, "rssm/img_dist_0")
    entries += layer_map(rssm.posterior_hidden, "rssm/obs_out")
    entries += layer_map(rssm.posterior_stats, "rssm/obs_dist")
    return entries + mlp_map(model.reward_head, "reward") + mlp_map(model.discount_head, "discount")


def load(entries) -> None:
    for parameter, name, to_ours in entries:
        parameter.data.copy_(to_ours(golden(f"param/{name}")))


# Features are (deter, stoch) here and (stoch, deter) there.


def swap_feature(layer: nn.Linear) -> None:
    """Reorders the columns of a layer that reads features, from their order to ours."""
    split = SIZE["S"] * SIZE["C"]
    layer.weight.data = torch.cat([layer.weight.data[:, split:], layer.weight.data[:, :split]], 1)


def theirs_order(feature: Tensor) -> Tensor:
    """Reorders our features, or gradients of a layer that reads them, to their order."""
    split = feature.shape[-1] - SIZE["S"] * SIZE["C"]
    return torch.cat([feature[..., split:], feature[..., :split]], -1)


def feature_readers(model: WorldModel, behavior: Behavior) -> list[nn.Linear]:
    heads = [model.reward_head, model.discount_head]
    heads += [behavior.actor, behavior.critic, behavior.slow_critic]
    return [model.decoder.dense, *[head.hidden[0] for head in heads]]


def assert_gradients_close(loss: Tensor, entries, prefix: str, readers: list[nn.Linear]) -> None:
    gradients = torch.autograd.grad(loss, [entry[0] for entry in entries], retain_graph=True)
    for (parameter, name, to_ours), ours in zip(entries, gradients, strict=True):
        reads_features = any(parameter is layer.weight for layer in readers)
        gradient = theirs_order(ours) if reads_features else ours
        theirs = to_ours(golden(f"{prefix}/{name}"))
        worst = float((gradient - theirs).abs().max())
        scale = float(theirs.abs().max())
        assert worst <= TOLERANCE * scale, f"{prefix}/{name}: off by {worst:.2e} of {scale:.2e}"


@dataclass(frozen=True)
class Loaded:
    model: WorldModel
    behavior: Behavior
    batch: TensorBatch
    loss: WorldModelLoss
    readers: list[nn.Linear]


@cache
def loaded() -> Loaded:
    """The golden model with the golden weights, and its loss on the golden batch."""
    model = WorldModel(
        WorldModelConfig(
            deter=int(GOLDEN["dims/deter"]),
            hidden=int(GOLDEN["dims/hidden"]),
            stoch=SIZE["S"],
            classes=SIZE["C"],
            conv_depth=int(GOLDEN["dims/depth"]),
            head_layers=int(GOLDEN["dims/layers"]),
            head_units=int(GOLDEN["dims/units"]),
            kl_scale=setting("kl_scale"),
            kl_balance=setting("kl_balance"),
            discount_loss_scale=setting("discount_loss_scale"),
        ),
        channels=1,
        action_size=SIZE["A"],
        discount=setting("discount"),
    )
    behavior = Behavior(
        BehaviorConfig(
            horizon=SIZE["H"],
            lambda_=setting("lambda"),
            layers=int(GOLDEN["dims/layers"]),
            units=int(GOLDEN["dims/units"]),
        ),
        feat_size=model.rssm.feat_size,
        action_size=SIZE["A"],
        is_discrete=True,
    )
    load(world_model_map(model))
    for name in ("actor", "critic", "slow_critic"):
        load(mlp_map(getattr(behavior, name), name))
    readers = feature_readers(model, behavior)
    for layer in readers:
        swap_feature(layer)
    names = ("image", "prev_action", "reward", "is_first", "is_terminal")
    batch = TensorBatch(*[golden(f"batch/{name}") for name in names])
    loss = model.loss(batch, forcing(golden("world_model/posterior_draw")))
    return Loaded(model, behavior, batch, loss, readers)


def test_the_mapping_covers_every_weight_of_both_codes():
    entries = world_model_map(loaded().model)
    for name in ("actor", "critic", "slow_critic"):
        entries += mlp_map(getattr(loaded().behavior, name), name)
    ours = [*loaded().model.parameters(), *loaded().behavior.parameters()]
    assert {id(entry[0]) for entry in entries} == {id(parameter) for parameter in ours}
    theirs = {key.removeprefix("param/") for key in GOLDEN if key.startswith("param/")}
    assert {entry[1] for entry in entries} == theirs


def test_embedding_states_and_logits_agree():
    observed = loaded().loss.observed
    embed = loaded().model.encoder(image_to_float(loaded().batch.image))
    assert_close(embed, "world_model/embed")
    assert_close(observed.state.deter, "world_model/deter")
    assert_close(observed.posterior, "world_model/posterior_logits")
    assert_close(observed.prior, "world_model/prior_logits")
    assert_close(theirs_order(observed.state.feat), "world_model/feature")


def test_head_means_agree():
    loss = loaded().loss
    assert loss.discount_logit is not None
    assert_close(loss.image_mean, "world_model/image_mean")
    assert_close(loss.reward_mean, "world_model/reward_mean")
    assert_close(loss.discount_logit.sigmoid(), "world_model/discount_mean")


def test_world_model_losses_agree():
    terms, total = loaded().loss.terms, loaded().loss.total
    constants = GAUSSIAN_CONSTANT * (64 * 64 + 1)
    assert_close(terms["image"], "world_model/image_loss", GAUSSIAN_CONSTANT * 64 * 64)
    assert_close(terms["reward"], "world_model/reward_loss", GAUSSIAN_CONSTANT)
    assert_close(terms["discount"], "world_model/discount_loss")
    assert_close(terms["kl"], "world_model/kl_loss")
    assert_close(total, "world_model/total_loss", constants)


def test_kl_and_entropies_agree():
    observed, latent = loaded().loss.observed, loaded().model.rssm.latent
    assert_close(latent.kl(observed.posterior, observed.prior), "world_model/kl_per_step")
    assert_close(latent.entropy(observed.prior).mean(), "world_model/prior_entropy")
    assert_close(latent.entropy(observed.posterior).mean(), "world_model/posterior_entropy")


def test_every_gradient_of_the_world_model_agrees():
    it = loaded()
    assert_gradients_close(it.loss.total, world_model_map(it.model), "world_model_grad", it.readers)


def test_gradient_norm_of_the_world_model_agrees():
    it = loaded()
    parameters = list(it.model.parameters())
    gradients = torch.autograd.grad(it.loss.total, parameters, retain_graph=True)
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
    assert_close(norm, "world_model/grad_norm")


def behavior_loss(mix: str, *, is_located: bool = False):
    """The golden behaviour loss; start states are the posteriors in B, T order."""
    it, prefix = loaded(), f"behaviour_{mix}"
    state = it.loss.observed.state.detach()
    start = RSSMState(state.deter.flatten(0, 1), state.stoch.flatten(0, 1))
    return it.behavior.loss(
        it.model,
        it.model.rssm.located(start) if is_located else start,
        it.model.discount_target(it.batch.is_terminal).flatten(),
        forcing(golden(f"{prefix}/action_draw")),
        forcing(golden(f"{prefix}/state_draw")),
        reinforce_share=MIXES[mix],
        entropy_scale=setting("actor_entropy_scale"),
    )


@pytest.mark.parametrize("mix", MIXES)
def test_imagined_features_agree(mix: str):
    it, prefix = loaded(), f"behaviour_{mix}"
    state = it.loss.observed.state.detach()
    imagined = it.behavior.imagine(
        it.model.rssm,
        RSSMState(state.deter.flatten(0, 1), state.stoch.flatten(0, 1)),
        forcing(golden(f"{prefix}/action_draw")),
        forcing(golden(f"{prefix}/state_draw")),
    )
    assert_close(theirs_order(imagined.feat), f"{prefix}/feature")
    assert_close(imagined.action, f"{prefix}/action_draw")


WAYS = [*((mix, False) for mix in MIXES), ("reinforce", True)]
"""(mix, whether z is kept as positions), the latter as training with reinforce does."""


@pytest.mark.parametrize(("mix", "is_located"), WAYS)
def test_behavior_values_targets_and_losses_agree(mix: str, is_located: bool):
    loss, prefix = behavior_loss(mix, is_located=is_located), f"behaviour_{mix}"
    for name in ("reward", "discount", "weight", "slow_value", "target", "actor_entropy"):
        assert_close(getattr(loss, name), f"{prefix}/{name}")
    assert_close(loss.actor, f"{prefix}/actor_loss")
    constant = GAUSSIAN_CONSTANT * float(golden(f"{prefix}/weight")[:-1].mean())
    assert_close(loss.critic, f"{prefix}/critic_loss", constant)


@pytest.mark.parametrize(("mix", "is_located"), WAYS)
def test_every_gradient_of_actor_and_critic_agrees(mix: str, is_located: bool):
    it, prefix = loaded(), f"behaviour_{mix}_grad"
    loss = behavior_loss(mix, is_located=is_located)
    assert_gradients_close(loss.actor, mlp_map(it.behavior.actor, "actor"), prefix, it.readers)
    assert_gradients_close(loss.critic, mlp_map(it.behavior.critic, "critic"), prefix, it.readers)


def test_the_golden_mix_is_the_share_of_dynamics():
    assert MIXES["both"] == pytest.approx(1 - setting("actor_gradient_mix_both"))


def test_five_optimiser_steps_agree():
    parameter = nn.Parameter(golden("optimizer/initial").clone())
    config = OptimizerConfig(learning_rate=2e-4, clip_norm=1.0, epsilon=1e-5, weight_decay=1e-6)
    optimizer = Optimizer([parameter], config)
    for step, gradient in enumerate(golden("optimizer/gradients")):
        flat, norm = optimizer.gradient((parameter * gradient).sum())
        optimizer.apply(flat, norm)
        after = golden("optimizer/after_each_step")[step]
        assert float((parameter.data - after).abs().max()) <= 1e-6
