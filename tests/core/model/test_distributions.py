"""Latents and actions, against numpy in float64: formulas, numeric integration and counting."""

import math

import numpy as np
import pytest
import torch

from dreamer_core.model.distributions import (
    CategoricalLatent,
    GaussianLatent,
    OneHotActions,
    TruncatedNormalActions,
    categorical_entropy,
    draw_one_hot,
    exponential_noise,
    seeded_generator,
    straight_through,
)
from tests.core.small import CPU, generator, sigmoid, softmax, to_float64

LOGITS = torch.tensor([0.5, -1.0, 2.0])
# (m, s) of the actor's raw output: centred, off centre, at the edge with a narrow and a wide std.
RAW = [(0.0, 0.0), (0.4, -1.5), (-2.5, -9.0), (3.0, 6.0)]
GRID = np.linspace(-1, 1, 200_001)


def test_the_class_with_the_earliest_arrival_is_drawn():
    probs = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    noise = torch.tensor([[0.1, 0.3, 1.0], [1.0, 1.0, 1.0]])
    sample = draw_one_hot(probs, noise)  # the ratios are 2, 1, 0.5 and 0.2, 0.3, 0.5
    assert sample.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_classes_are_drawn_as_often_as_their_probabilities_say():
    probs, draws = LOGITS.softmax(-1), 20_000
    noise = exponential_noise((draws, 3), generator())
    counts = draw_one_hot(probs.expand(draws, 3), noise).sum(0).numpy()
    expected = softmax(LOGITS) * draws
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-square, 2 dof, p = 0.001


def test_a_straight_through_sample_is_exactly_one_hot():
    noise = exponential_noise((50, 3), generator())
    sample = straight_through(LOGITS.expand(50, 3), noise)
    assert set(sample.flatten().tolist()) == {0.0, 1.0}
    assert sample.sum(-1).tolist() == [1.0] * 50


def test_a_straight_through_sample_has_the_gradient_of_its_probabilities():
    logits = LOGITS.clone().requires_grad_()
    upstream = torch.tensor([3.0, -1.0, 2.0])
    (straight_through(logits, torch.ones(3)) * upstream).sum().backward()
    probs = softmax(LOGITS)
    by_hand = (np.diag(probs) - np.outer(probs, probs)) @ upstream.numpy()
    np.testing.assert_allclose(logits.grad, by_hand, rtol=1e-5)


def test_entropy_of_a_fair_and_of_an_unfair_coin():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    unfair = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert categorical_entropy(logits).tolist() == pytest.approx([math.log(2), unfair])


def test_categorical_kl_by_hand_is_summed_over_the_variables():
    posterior = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()  # S = 2, C = 2
    prior = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    kl = CategoricalLatent(2, 2).kl(posterior, prior)
    assert kl.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-5)


@pytest.mark.parametrize("latent", [CategoricalLatent(4, 3), GaussianLatent(4)])
def test_kl_is_zero_to_itself_positive_to_others_and_unsymmetric(latent):
    ours, other = torch.randn(2, 5, *latent.stats_shape, generator=generator()).unbind(0)
    assert latent.kl(ours, ours).abs().max() < 1e-6
    assert latent.kl(ours, other).min() > 0
    assert not torch.allclose(latent.kl(ours, other), latent.kl(other, ours))


@pytest.mark.parametrize("latent", [CategoricalLatent(4, 3), GaussianLatent(4)])
def test_shapes_of_noise_sample_kl_and_entropy(latent):
    stats = torch.zeros(2, 5, *latent.stats_shape)
    sample = latent.sample(stats, latent.noise((2, 5), generator()))
    assert sample.shape == (2, 5, latent.size)
    assert latent.kl(stats, stats).shape == latent.entropy(stats).shape == (2, 5)


def test_entropy_of_categorical_latents_is_summed_over_the_variables():
    entropy = CategoricalLatent(4, 3).entropy(torch.zeros(4, 3))
    assert entropy.item() == pytest.approx(4 * math.log(3))


def test_a_gaussian_sample_is_mean_plus_scaled_noise():
    stats = torch.tensor([[0.5, 0.0], [-1.0, 1.0]])  # (mean, raw std) of two variables
    sample = GaussianLatent(2).sample(stats, torch.tensor([2.0, -1.0]))
    by_hand = [0.5 + 1.1 * 2, -1 - (2 * sigmoid(0.5) + 0.1)]
    assert sample.tolist() == pytest.approx(by_hand)


def test_gaussian_kl_and_entropy_equal_numeric_integrals():
    posterior, prior = torch.tensor([[0.3, -1.0]]), torch.tensor([[-0.4, 0.7]])
    x = np.linspace(-15, 15, 60_001)

    def log_density(stats):
        mean, std = float(stats[0, 0]), 2 * sigmoid(float(stats[0, 1]) / 2) + 0.1
        return -0.5 * ((x - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)

    log_q, log_p = log_density(posterior), log_density(prior)
    latent = GaussianLatent(1)
    kl = np.trapezoid(np.exp(log_q) * (log_q - log_p), x)
    assert latent.kl(posterior, prior).item() == pytest.approx(kl, rel=1e-5)
    entropy = -np.trapezoid(np.exp(log_q) * log_q, x)
    assert latent.entropy(posterior).item() == pytest.approx(entropy, rel=1e-5)


def test_one_hot_actions_by_hand():
    actions, probs = OneHotActions(3), softmax(LOGITS)
    second = torch.tensor([0.0, 1.0, 0.0])
    assert actions.log_prob(LOGITS, second).item() == pytest.approx(math.log(probs[1]))
    assert actions.mode(LOGITS).tolist() == [0, 0, 1]
    assert actions.entropy(LOGITS).item() == pytest.approx(-(probs * np.log(probs)).sum())
    assert actions.noise((4, 2), generator()).shape == (4, 2, 3)


# --- Truncated normal: slow versions in float64 ------------------------------------------------


def params_of(*raw: tuple[float, float]) -> torch.Tensor:
    """Raw outputs [2 A] of the actor from (m, s) of each of A dimensions."""
    return torch.tensor([m for m, _ in raw] + [s for _, s in raw])


def slow_density(m: float, s: float) -> np.ndarray:
    """Density on GRID: the normal's, divided by its integral over [-1, 1]."""
    uncut = np.exp(-0.5 * ((GRID - math.tanh(m)) / (2 * sigmoid(s / 2) + 0.1)) ** 2)
    return uncut / np.trapezoid(uncut, GRID)


def slow_quantile(m: float, s: float, quantile: np.ndarray) -> np.ndarray:
    """Inverse of the numerically integrated distribution function."""
    cumulative = np.cumsum(slow_density(m, s)) * (GRID[1] - GRID[0])
    return np.interp(quantile, cumulative / cumulative[-1], GRID)


@pytest.mark.parametrize("raw", RAW)
def test_truncated_log_density_equals_the_normalised_normal(raw):
    at = np.arange(0, len(GRID), 10_000)
    action = torch.tensor(GRID[at], dtype=torch.float32)[:, None]
    log_prob = TruncatedNormalActions(1).log_prob(params_of(raw).expand(len(at), 2), action)
    np.testing.assert_allclose(log_prob, np.log(slow_density(*raw)[at]), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("raw", RAW)
def test_truncated_entropy_equals_its_numeric_integral(raw):
    density = slow_density(*raw)
    integral = -np.trapezoid(density * np.log(np.maximum(density, 1e-300)), GRID)
    entropy = TruncatedNormalActions(1).entropy(params_of(raw))
    assert entropy.item() == pytest.approx(integral, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("raw", RAW)
def test_truncated_samples_invert_the_distribution_function(raw):
    noise = torch.linspace(0.01, 0.99, 99)[:, None]
    sample = TruncatedNormalActions(1).sample(params_of(raw).expand(99, 2), noise)
    np.testing.assert_allclose(sample[:, 0], slow_quantile(*raw, noise[:, 0].numpy()), atol=1e-4)


def test_truncated_log_density_and_entropy_are_summed_over_the_dimensions():
    both, ones = TruncatedNormalActions(2), TruncatedNormalActions(1)
    action = torch.tensor([0.2, -0.7])
    log_probs = [ones.log_prob(params_of(RAW[i]), action[i : i + 1]) for i in (0, 1)]
    assert torch.isclose(both.log_prob(params_of(*RAW[:2]), action), sum(log_probs))
    entropies = [ones.entropy(params_of(RAW[i])) for i in (0, 1)]
    assert torch.isclose(both.entropy(params_of(*RAW[:2])), sum(entropies))


@pytest.mark.parametrize("raw", RAW)
def test_truncated_samples_carry_the_gradient_of_the_quantile(raw):
    params = params_of(raw).requires_grad_()
    gradient = torch.autograd.grad(
        TruncatedNormalActions(1).sample(params, torch.tensor([0.3])).sum(), params
    )[0]
    (m, s), step, quantile = raw, 1e-2, np.array([0.3])
    by_m = slow_quantile(m + step, s, quantile) - slow_quantile(m - step, s, quantile)
    by_s = slow_quantile(m, s + step, quantile) - slow_quantile(m, s - step, quantile)
    slow = np.concatenate([by_m, by_s]) / (2 * step)
    np.testing.assert_allclose(gradient, slow, rtol=1e-2, atol=1e-4)


def test_truncated_samples_stay_inside_and_finite_however_extreme():
    actions = TruncatedNormalActions(1)
    raw = [(m, s) for m in (-50.0, 0.0, 50.0) for s in (-50.0, 0.0, 50.0)]
    params = torch.tensor(raw).repeat_interleave(3, 0).requires_grad_()
    sample = actions.sample(params, torch.tensor([0.0, 0.5, 1.0]).repeat(9)[:, None])
    log_prob, entropy = actions.log_prob(params, sample), actions.entropy(params)
    (sample.sum() + log_prob.sum() + entropy.sum()).backward()
    assert sample.abs().max() <= 1
    assert torch.isfinite(params.grad).all()


def test_the_mode_of_a_truncated_normal_is_where_its_density_is_largest():
    mode = TruncatedNormalActions(1).mode(params_of((0.4, -1.5)))
    assert mode.item() == pytest.approx(GRID[slow_density(0.4, -1.5).argmax()], abs=1e-5)


def test_uniform_noise_has_one_number_per_action_dimension():
    noise = TruncatedNormalActions(2).noise((5,), generator())
    assert noise.shape == (5, 2)
    assert noise.min() >= 0 and noise.max() <= 1


def test_a_stream_of_random_numbers_depends_on_every_word_and_on_nothing_else():
    def draws(*words):
        return tuple(to_float64(torch.rand(3, generator=seeded_generator(CPU, *words))))

    assert draws(1, 2, 3) == draws(1, 2, 3)
    others = [(1, 2), (1, 2, 4), (1, 3, 3), (0, 2, 3), (3, 2, 1)]
    assert len({draws(1, 2, 3), *[draws(*words) for words in others]}) == 6
