"""Latents, against numpy in float64: formulas, numeric integration and counting."""

import math

import numpy as np
import pytest
import torch

from dreamer_core.model.distributions import (
    CategoricalLatent,
    GaussianLatent,
    categorical_entropy,
    draw_one_hot,
    exponential_noise,
    seeded_generator,
    straight_through,
)
from tests.core.small import CPU, generator, sigmoid, softmax, to_float64

LOGITS = torch.tensor([0.5, -1.0, 2.0])


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


def test_a_stream_of_random_numbers_depends_on_every_word_and_on_nothing_else():
    def draws(*words):
        return tuple(to_float64(torch.rand(3, generator=seeded_generator(CPU, *words))))

    assert draws(1, 2, 3) == draws(1, 2, 3)
    others = [(1, 2), (1, 2, 4), (1, 3, 3), (0, 2, 3), (3, 2, 1)]
    assert len({draws(1, 2, 3), *[draws(*words) for words in others]}) == 6
