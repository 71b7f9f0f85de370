"""Distributions of actions, against numpy in float64: formulas, integration and counting."""

import itertools
import math

import numpy as np
import pytest
import torch

from dreamer_core.model.actions import ChoicesActions, OneHotActions, TruncatedNormalActions
from tests.core.small import generator, sigmoid, softmax

LOGITS = torch.tensor([0.5, -1.0, 2.0])
# (m, s) of the actor's raw output: centred, off centre, at the edge with a narrow and a wide std.
RAW = [(0.0, 0.0), (0.4, -1.5), (-2.5, -9.0), (3.0, 6.0)]
GRID = np.linspace(-1, 1, 200_001)


def test_one_hot_actions_by_hand():
    actions, probs = OneHotActions(3), softmax(LOGITS)
    second = torch.tensor([0.0, 1.0, 0.0])
    assert actions.log_prob(LOGITS, second).item() == pytest.approx(math.log(probs[1]))
    assert actions.mode(LOGITS).tolist() == [0, 0, 1]
    assert actions.entropy(LOGITS).item() == pytest.approx(-(probs * np.log(probs)).sum())
    assert actions.noise((4, 2), generator()).shape == (4, 2, 3)


# --- Several choices: every joint action, in float64 -------------------------------------------

CLASSES = (2, 3, 2)


def joint_actions() -> np.ndarray:
    """All 12 actions of CLASSES [12, 7]."""
    return np.array([np.concatenate(p) for p in itertools.product(*map(np.eye, CLASSES))])


def joint_probabilities(params: torch.Tensor) -> np.ndarray:
    """Probability of each [12]: the product of its choices'."""
    probs = [softmax(part) for part in params.split(CLASSES)]
    return np.array([math.prod(p) for p in itertools.product(*probs)])


def test_choices_are_independent_so_that_joint_actions_have_products_and_sums():
    actions, params = ChoicesActions(CLASSES), torch.randn(7, generator=generator())
    every, probs = torch.from_numpy(joint_actions()).float(), joint_probabilities(params)
    np.testing.assert_allclose(actions.log_prob(params, every), np.log(probs), rtol=1e-5)
    assert actions.entropy(params).item() == pytest.approx(-(probs * np.log(probs)).sum(), rel=1e-5)
    assert actions.mode(params).tolist() == every[probs.argmax()].tolist()
    np.testing.assert_allclose(actions.preference(params), probs @ joint_actions(), rtol=1e-5)


def test_joint_actions_are_drawn_as_often_as_their_probabilities_say():
    actions, params = ChoicesActions(CLASSES), torch.randn(7, generator=generator())
    draws = actions.sample(params.expand(20_000, 7), actions.noise((20_000,), generator(1)))
    matches = (draws.numpy()[:, None] == joint_actions()).all(-1)
    expected = joint_probabilities(params) * 20_000
    assert (matches.sum(1) == 1).all()
    assert ((matches.sum(0) - expected) ** 2 / expected).sum() < 31.3  # 11 dof, p = 0.001


def test_each_choice_has_the_gradient_of_its_own_probabilities():
    actions = ChoicesActions(CLASSES)
    params = torch.randn(7, generator=generator()).requires_grad_()
    upstream = torch.arange(1.0, 8.0)
    (actions.sample(params, torch.ones(7)) * upstream).sum().backward()
    probs = [softmax(part) for part in params.detach().split(CLASSES)]
    by_hand = [
        (np.diag(p) - np.outer(p, p)) @ u.numpy()
        for p, u in zip(probs, upstream.split(CLASSES), strict=True)
    ]
    np.testing.assert_allclose(params.grad, np.concatenate(by_hand), rtol=1e-5, atol=1e-6)


def test_a_single_choice_is_the_one_hot_action():
    one, same, noise = OneHotActions(3), ChoicesActions((3,)), torch.tensor([0.4, 0.2, 1.0])
    sample = one.sample(LOGITS, noise)
    assert same.sample(LOGITS, noise).tolist() == sample.tolist()
    assert same.log_prob(LOGITS, sample).item() == one.log_prob(LOGITS, sample).item()
    assert same.noise((4,), generator()).tolist() == one.noise((4,), generator()).tolist()


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
