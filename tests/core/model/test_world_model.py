"""World-model loss (DreamerV2, eq. 2, Alg. 2): each term by hand, and who gets which gradient."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer_core.model.distributions import CategoricalLatent, GaussianLatent
from dreamer_core.model.world_model import TensorBatch, WorldModel, balanced_kl
from tests.core.small import (
    generator,
    gradient_size,
    make_constant,
    make_tensors,
    make_world_model,
    model_loss,
    sigmoid,
    small,
    softmax,
    to_float64,
)

POSTERIOR = torch.tensor([[[[0.5, -1.0, 2.0], [0.0, 0.3, -0.2]]]])  # [B=1, T=1, S=2, C=3]
PRIOR = torch.tensor([[[[0.1, 0.4, -0.3], [1.0, 0.0, 0.2]]]])
LATENT = CategoricalLatent(2, 3)


def slow_kl(posterior: Tensor, prior: Tensor) -> float:
    q, p = softmax(posterior), softmax(prior)
    return float((q * np.log(q / p)).sum())


def kl_and_gradients(balance: float, free_nats: float = 0.0) -> tuple[float, Tensor, Tensor]:
    """The balanced KL of the example, its gradient on the posterior and on the prior."""
    posterior, prior = POSTERIOR.clone().requires_grad_(), PRIOR.clone().requires_grad_()
    kl = balanced_kl(LATENT, posterior, prior, balance=balance, free_nats=free_nats)
    return kl.item(), *torch.autograd.grad(kl, (posterior, prior))


def finite_difference(at: Tensor, function) -> np.ndarray:
    """Central differences of a float64 function of logits."""
    flat, step = to_float64(at).ravel(), 1e-5
    shifts = step * np.eye(len(flat))
    values = [function(flat + shift) - function(flat - shift) for shift in shifts]
    return np.array(values).reshape(at.shape) / (2 * step)


@pytest.mark.parametrize("balance", [0.0, 0.5, 0.8, 1.0])
def test_balancing_leaves_the_value_of_the_kl_alone(balance):
    assert kl_and_gradients(balance)[0] == pytest.approx(slow_kl(POSTERIOR, PRIOR), rel=1e-5)


def test_the_prior_gets_eight_tenths_of_the_gradient_and_the_posterior_two():
    _, to_posterior, to_prior = kl_and_gradients(0.8)
    shape = POSTERIOR.shape
    by_prior = finite_difference(PRIOR, lambda x: slow_kl(POSTERIOR, x.reshape(shape)))
    by_posterior = finite_difference(POSTERIOR, lambda x: slow_kl(x.reshape(shape), PRIOR))
    np.testing.assert_allclose(to_prior, 0.8 * by_prior, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(to_posterior, 0.2 * by_posterior, rtol=1e-4, atol=1e-6)


def test_without_balancing_both_sides_get_the_whole_gradient_of_the_kl():
    _, to_posterior, to_prior = kl_and_gradients(0.5)
    shape = POSTERIOR.shape
    by_prior = finite_difference(PRIOR, lambda x: slow_kl(POSTERIOR, x.reshape(shape)))
    by_posterior = finite_difference(POSTERIOR, lambda x: slow_kl(x.reshape(shape), PRIOR))
    np.testing.assert_allclose(to_prior, by_prior, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(to_posterior, by_posterior, rtol=1e-4, atol=1e-6)


def test_the_gradient_on_the_prior_is_what_its_probabilities_are_too_high_by():
    _, _, to_prior = kl_and_gradients(0.8)
    by_hand = 0.8 * (softmax(PRIOR) - softmax(POSTERIOR))
    np.testing.assert_allclose(to_prior, by_hand, rtol=1e-4, atol=1e-6)


def test_the_kl_is_summed_over_variables_and_averaged_over_rows():
    posterior, prior = POSTERIOR.repeat(2, 3, 1, 1), PRIOR.repeat(2, 3, 1, 1)
    posterior[0] = prior[0]  # three of six rows have no divergence
    kl = balanced_kl(LATENT, posterior, prior, balance=0.8, free_nats=0.0)
    assert kl.item() == pytest.approx(slow_kl(POSTERIOR, PRIOR) / 2, rel=1e-5)


@pytest.mark.parametrize("balance", [0.5, 0.8])
def test_kl_below_the_free_nats_is_constant_and_trains_nobody(balance):
    above = slow_kl(POSTERIOR, PRIOR) + 0.5
    kl, to_posterior, to_prior = kl_and_gradients(balance, free_nats=above)
    assert kl == pytest.approx(above)
    assert to_posterior.abs().max() == to_prior.abs().max() == 0


def test_kl_above_the_free_nats_is_untouched():
    below = slow_kl(POSTERIOR, PRIOR) - 0.1
    free, plain = kl_and_gradients(0.8, free_nats=below), kl_and_gradients(0.8)
    assert free[0] == plain[0]
    assert torch.equal(free[1], plain[1]) and torch.equal(free[2], plain[2])


def test_free_nats_are_compared_with_the_mean_over_rows():
    mean = torch.tensor([[[[0.0, 0.0]], [[2.2, 0.0]]]], requires_grad=True)  # T = 2, std 1.1
    kl = balanced_kl(GaussianLatent(1), mean, torch.zeros(1, 2, 1, 2), balance=0.8, free_nats=0.9)
    assert kl.item() == pytest.approx((0 + 2) / 2)  # the row of 0 nats is not lifted to 0.9


# --- The terms by hand -------------------------------------------------------------------------


def make_example(**world_model) -> tuple[WorldModel, TensorBatch]:
    model = make_world_model(small(world_model=world_model))
    return model, make_tensors()


def test_the_image_loss_sums_over_pixels_and_averages_over_rows():
    model, data = make_example()
    make_constant(model.decoder.convolutions[-1], 0.1)
    data.image[:] = 255
    data.image[0] = 0  # one sequence of three is black
    loss = model_loss(model, data).terms["image"].item()
    assert loss == pytest.approx(0.5 * 64 * 64 * (2 * 0.4**2 + 0.6**2) / 3, rel=1e-5)


def test_the_reward_loss_compares_with_the_squashed_reward():
    model, data = make_example()
    make_constant(model.reward_head.out, 0.25)
    data.reward[:] = 2.0
    data.reward[0] = -5.0
    by_hand = 0.5 * (2 * (math.tanh(2) - 0.25) ** 2 + (math.tanh(-5) - 0.25) ** 2) / 3
    assert model_loss(model, data).terms["reward"].item() == pytest.approx(by_hand, rel=1e-5)


def test_rewards_can_be_learned_as_they_are():
    model, data = make_example(reward_transform="identity")
    make_constant(model.reward_head.out, 0.25)
    data.reward[:] = 2.0
    loss = model_loss(model, data).terms["reward"].item()
    assert loss == pytest.approx(0.5 * 1.75**2, rel=1e-5)
    assert model.transform_reward(torch.tensor([-3.0, 7.0])).tolist() == [-3.0, 7.0]


def test_the_discount_loss_is_a_cross_entropy_with_the_soft_target_gamma():
    model, data = make_example()
    make_constant(model.discount_head.out, 1.5)  # one of 3 x 8 rows is terminal
    p, gamma = sigmoid(1.5), 0.995
    goes_on = -(gamma * math.log(p) + (1 - gamma) * math.log(1 - p))
    by_hand = (23 * goes_on - math.log(1 - p)) / 24
    assert model_loss(model, data).terms["discount"].item() == pytest.approx(by_hand, rel=1e-5)


def test_the_discount_target_is_gamma_unless_the_task_itself_ended():
    model, _ = make_example()
    is_terminal = torch.tensor([False, True, False])  # goes on; ended; stopped by a time limit
    assert model.discount_target(is_terminal).tolist() == pytest.approx([0.995, 0.0, 0.995])


def test_the_discount_loss_is_least_where_the_head_says_gamma():
    model, data = make_example()
    data.is_terminal[:] = False
    losses = []
    for p in (0.99, 0.995, 0.999):
        make_constant(model.discount_head.out, math.log(p / (1 - p)))
        losses.append(model_loss(model, data).terms["discount"].item())
    assert losses[1] == min(losses)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    model, data = make_example(kl_scale=0.3, discount_loss_scale=5.0, reward_loss_scale=7.0)
    loss = model_loss(model, data)
    terms = {name: term.item() for name, term in loss.terms.items()}
    assert set(terms) == {"image", "reward", "discount", "kl"}
    total = terms["image"] + 7 * terms["reward"] + 5 * terms["discount"] + 0.3 * terms["kl"]
    assert loss.total.item() == pytest.approx(total, rel=1e-6)


def test_the_weights_of_the_terms_in_atari_are_a_tenth_for_the_kl_and_one_elsewhere():
    model, data = make_example()
    loss = model_loss(model, data)
    terms = {name: term.item() for name, term in loss.terms.items()}
    total = terms["image"] + terms["reward"] + terms["discount"] + 0.1 * terms["kl"]
    assert loss.total.item() == pytest.approx(total, rel=1e-6)


def test_free_nats_reach_the_loss():
    model, data = make_example(free_nats=50.0)
    assert model_loss(model, data).terms["kl"].item() == pytest.approx(50.0)


def test_the_kl_term_equals_numpy_on_the_observed_logits():
    model, data = make_example()
    loss = model_loss(model, data)
    q, p = softmax(loss.observed.posterior.detach()), softmax(loss.observed.prior.detach())
    slow = (q * np.log(q / p)).sum((-2, -1)).mean()
    assert loss.terms["kl"].item() == pytest.approx(slow, rel=1e-4)


def test_without_a_discount_head_the_discount_is_gamma():
    model, data = make_example(has_discount_head=False)
    loss = model_loss(model, data)
    assert "discount" not in loss.terms and loss.discount_logit is None
    feat = loss.observed.state.feat
    assert torch.equal(model.predict_discount(feat), torch.full((3, 8), 0.995))


def test_predictions_are_the_means_of_the_heads():
    model, data = make_example()
    loss = model_loss(model, data)
    feat = loss.observed.state.feat
    assert torch.equal(model.predict_reward(feat), loss.reward_mean)
    assert torch.equal(model.predict_discount(feat), loss.discount_logit.sigmoid())


def test_the_loss_reaches_every_parameter():
    model, data = make_example()
    gradients = torch.autograd.grad(model_loss(model, data).total, list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    assert [n for n, g in zip(names, gradients, strict=True) if g.abs().max() == 0] == []


def test_the_image_loss_reaches_encoder_and_posterior_through_the_samples():
    model, data = make_example()
    with torch.no_grad():  # the decoder now sees the samples alone, not the recurrent state
        model.decoder.dense.weight[:, : model.rssm.deter_size] = 0
    image_loss = model_loss(model, data).terms["image"]
    assert gradient_size(image_loss, model.encoder) > 0
    assert gradient_size(image_loss, model.rssm.posterior_stats) > 0


def test_open_loop_sees_no_image_behind_its_context():
    model, data = make_example(latent="gaussian")  # every image then changes its sample
    data.is_first[0, 4] = False
    noise = model.rssm.latent.noise((3, 8), generator())
    before = model.open_loop(data, noise, context=5).image
    data.image[:, 5:] = 0
    assert torch.equal(model.open_loop(data, noise, context=5).image, before)
    data.image[:, 4] = 0
    assert not torch.equal(model.open_loop(data, noise, context=5).image[:, 5:], before[:, 5:])


def test_open_loop_reconstructs_its_context_as_the_loss_does():
    model, data = make_example()
    noise = model.rssm.latent.noise((3, 8), generator())
    images = model.open_loop(data, noise, context=5).image
    assert images.shape == (3, 8, 64, 64, 1)
    assert torch.allclose(images[:, :5], model.loss(data, noise).image_mean[:, :5], atol=1e-6)
