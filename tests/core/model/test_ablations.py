"""Each ablation of Table 2 and the schedules of Table 1 change what they say, and `atari` does not.

The networks are small; every other value comes from the presets themselves.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.model.rssm import RSSMState
from dreamer_core.model.world_model import WorldModel, WorldModelLoss
from dreamer_core.presets import PRESETS, changes, leaves, preset
from tests.core.small import (
    DISCRETE,
    generator,
    gradient_size,
    make_batch,
    make_behavior,
    make_constant,
    make_tensors,
    make_world_model,
    model_loss,
    small,
)

ABLATIONS = [
    "no_layer_norm", "no_reward_gradients", "no_discrete_latents", "no_kl_balancing",
    "no_policy_reinforce", "no_image_gradients",
]  # fmt: skip


def world_model_of(name: str) -> tuple[WorldModel, WorldModelLoss]:
    """The small world model of a preset, and its loss on a batch that is the same for all."""
    model = make_world_model(small(name))
    return model, model_loss(model, make_tensors())


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_setting_of_atari(name):
    atari, ablated = dict(leaves(preset("atari"))), dict(leaves(preset(name)))
    differing = {path for path in atari if atari[path] != ablated[path]} - {"preset"}
    assert differing == set(changes(name)) and len(differing) == 1


def test_these_are_all_the_ablations():
    assert {name for name in PRESETS if name.startswith("no_")} == set(ABLATIONS)


# --- No reward gradients, no image gradients -----------------------------------------------------


def test_in_atari_rewards_shape_the_representation():
    model, loss = world_model_of("atari")
    assert gradient_size(loss.terms["reward"], model.rssm) > 0
    assert gradient_size(loss.terms["reward"], model.encoder) > 0


def test_without_reward_gradients_the_reward_trains_its_head_and_nothing_else():
    model, loss = world_model_of("no_reward_gradients")
    others = (model.rssm, model.encoder, model.decoder, model.discount_head)
    assert gradient_size(loss.terms["reward"], *others) == 0
    assert gradient_size(loss.terms["reward"], model.reward_head) > 0


def test_without_reward_gradients_images_and_discounts_still_shape_the_representation():
    model, loss = world_model_of("no_reward_gradients")
    for term in ("image", "discount", "kl"):
        assert gradient_size(loss.terms[term], model.rssm) > 0
        assert gradient_size(loss.terms[term], model.encoder) > 0


def test_in_atari_images_shape_the_representation():
    model, loss = world_model_of("atari")
    assert gradient_size(loss.terms["image"], model.rssm) > 0
    assert gradient_size(loss.terms["image"], model.encoder) > 0


def test_without_image_gradients_the_image_trains_the_decoder_and_nothing_else():
    model, loss = world_model_of("no_image_gradients")
    others = (model.rssm, model.encoder, model.reward_head, model.discount_head)
    assert gradient_size(loss.terms["image"], *others) == 0
    assert gradient_size(loss.terms["image"], model.decoder) > 0


def test_without_image_gradients_rewards_and_discounts_still_shape_the_representation():
    model, loss = world_model_of("no_image_gradients")
    for term in ("reward", "discount", "kl"):
        assert gradient_size(loss.terms[term], model.rssm) > 0
        assert gradient_size(loss.terms[term], model.encoder) > 0


@pytest.mark.parametrize("name", ["no_reward_gradients", "no_image_gradients"])
def test_stopping_gradients_leaves_every_prediction_as_it_was(name):
    (_, atari), (_, ablated) = world_model_of("atari"), world_model_of(name)
    for term, value in atari.terms.items():
        assert torch.equal(value, ablated.terms[term])


# --- No layer norm -------------------------------------------------------------------------------


def cell_is_blind_to_scale(name: str) -> bool:
    """Whether gates ten times as large give the same state, which only a norm can bring about."""
    cell = make_world_model(small(name)).rssm.cell
    x = torch.randn(4, 16, generator=generator())
    deter = torch.randn(4, 16, generator=generator(1))
    before = cell(x, deter)
    with torch.no_grad():
        cell.gates.weight.mul_(10)
    return torch.allclose(cell(x, deter), before, atol=1e-2)


def test_layer_norm_is_at_work_in_atari_and_gone_in_its_ablation():
    assert cell_is_blind_to_scale("atari")
    assert not cell_is_blind_to_scale("no_layer_norm")


def test_without_layer_norm_its_weights_are_gone_and_no_other():
    names = {
        name: {key for key, _ in make_world_model(small(name)).named_parameters()}
        for name in ("atari", "no_layer_norm")
    }
    norm = {"rssm.cell.norm.weight", "rssm.cell.norm.bias"}
    assert names["atari"] - names["no_layer_norm"] == norm
    assert names["no_layer_norm"] < names["atari"]


# --- No discrete latents -------------------------------------------------------------------------


def test_latents_are_one_hot_in_atari():
    model, loss = world_model_of("atari")
    stoch = loss.observed.state.stoch.unflatten(-1, model.rssm.latent.stats_shape)
    assert set(stoch.unique().tolist()) == {0.0, 1.0}
    assert (stoch.sum(-1) == 1).all()


def test_without_discrete_latents_samples_are_gaussian():
    model, loss = world_model_of("no_discrete_latents")
    mean, raw = loss.observed.posterior.unbind(-1)
    noise = model.rssm.latent.noise((3, 8), generator())
    by_hand = mean + (2 * torch.sigmoid(raw / 2) + 0.1) * noise
    assert torch.allclose(loss.observed.state.stoch, by_hand, atol=1e-6)


def test_without_discrete_latents_there_are_32_numbers_instead_of_1024():
    sizes = {}
    for name in ("atari", "no_discrete_latents"):
        with torch.device("meta"):
            config = preset(name).world_model
            model = WorldModel(config, channels=1, action_size=18, discount=0.995)
        sizes[name] = model.rssm.latent.size
    assert sizes == {"atari": 1024, "no_discrete_latents": 32}


# --- No KL balancing -----------------------------------------------------------------------------


def shares_of_kl(name: str) -> tuple[Tensor, Tensor]:
    """Gradient of the KL term on the logits of prior and of posterior, over the plain KL's."""
    model, loss = world_model_of(name)
    latent, stats = model.rssm.latent, (loss.observed.prior, loss.observed.posterior)
    plain = latent.kl(loss.observed.posterior, loss.observed.prior).mean()
    ours = torch.autograd.grad(loss.terms["kl"], stats, retain_graph=True)
    theirs = torch.autograd.grad(plain, stats, retain_graph=True)
    # The last row feeds no later one, so there these are the gradients of its own KL alone.
    return tuple((a[:, -1].norm() / b[:, -1].norm()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "prior", "posterior"), [("atari", 0.8, 0.2), ("no_kl_balancing", 1.0, 1.0)]
)
def test_shares_of_the_kl_gradient_for_prior_and_posterior(name, prior, posterior):
    to_prior, to_posterior = shares_of_kl(name)
    assert to_prior.item() == pytest.approx(prior, rel=1e-3)
    assert to_posterior.item() == pytest.approx(posterior, rel=1e-3)


# --- No policy reinforce ---------------------------------------------------------------------


def actor_gradient_size(name: str, *, is_world_flat: bool) -> float:
    """Size of the actor's gradient without its entropy, in a world that may ignore all actions."""
    config = small(name)
    model = make_world_model(config)
    behavior, latent = make_behavior(config, model), model.rssm.latent
    if is_world_flat:
        make_constant(model.reward_head.out, 1.0)
        make_constant(model.discount_head.out, 1.0)
        make_constant(behavior.slow_critic.out, -1.0)
    rng, shape = generator(), (config.behavior.horizon, 5)
    loss = behavior.loss(
        model, RSSMState(torch.ones(5, 16), torch.ones(5, latent.size)), torch.ones(5),
        behavior.actions.noise(shape, rng), latent.noise(shape, rng),
        reinforce_share=config.behavior.reinforce_share, entropy_scale=0.0,
    )  # fmt: skip
    return gradient_size(loss.actor, behavior.actor)


def test_in_atari_the_actor_learns_by_reinforce_from_returns_it_cannot_differentiate():
    assert actor_gradient_size("atari", is_world_flat=True) > 0


def test_without_policy_reinforce_the_actor_learns_through_the_dynamics_alone():
    assert actor_gradient_size("no_policy_reinforce", is_world_flat=True) == 0
    assert actor_gradient_size("no_policy_reinforce", is_world_flat=False) > 0


# --- Schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "policy_step", "reinforce_share", "entropy_scale"),
    [
        ("atari_schedules", 0, 0.9, 3e-3),
        ("atari_schedules", 1_250_000, 0.95, 1.65e-3),
        ("atari_schedules", 2_500_000, 1.0, 3e-4),
        ("atari_schedules", 5_000_000, 1.0, 3e-4),
        ("atari", 0, 1.0, 1e-3),
        ("atari", 5_000_000, 1.0, 1e-3),
    ],
)
def test_rho_and_eta_follow_the_policy_steps(name, policy_step, reinforce_share, entropy_scale):
    agent = DreamerAgent(small(name), DISCRETE)
    metrics = agent.train_step(make_batch(), policy_step=policy_step)
    assert metrics["dreamer_reinforce_share"].item() == pytest.approx(reinforce_share)
    assert metrics["dreamer_entropy_scale"].item() == pytest.approx(entropy_scale)


def test_scheduled_rho_and_eta_are_what_the_actor_is_trained_with():
    constant = {"reinforce_share": 0.95, "entropy_scale": 1.65e-3}
    losses = [
        DreamerAgent(config, DISCRETE).train_step(make_batch(), policy_step=1_250_000)
        for config in (small("atari_schedules"), small("atari", behavior=constant), small("atari"))
    ]
    scheduled, same, other = (float(metrics["dreamer_actor_loss"]) for metrics in losses)
    assert scheduled == pytest.approx(same, rel=1e-6)
    assert not np.isclose(scheduled, other, rtol=1e-4)
