"""Distributions of actions, sampled from noise that is drawn beforehand; see distributions.py."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer_core.model.distributions import (
    LOG_SQRT_2PI,
    categorical_entropy,
    exponential_noise,
    straight_through,
)

_MIN_UNIFORM = 1e-6


class ActionDistribution(Protocol):
    """A family of actions [..., A]; `params` [..., P] is the actor's raw output."""

    params_size: int
    """P."""

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws the noise [*shape, A] of actions with these leading axes."""
        ...

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Returns actions [..., A]; gradients reach the params."""
        ...

    def mode(self, params: Tensor) -> Tensor:
        """Returns the most likely action [..., A]."""
        ...

    def preference(self, params: Tensor) -> Tensor:
        """Returns what to show of it [..., A]: probabilities of choices, modes of others."""
        ...

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Log-probability (density) of actions [..., A], shape [...]."""
        ...

    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats, shape [...]."""
        ...


class OneHotActions:
    """One-hot categorical actions with straight-through gradients; params are A logits."""

    def __init__(self, action_size: int) -> None:
        self.params_size = action_size

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws Exponential(1) noise [*shape, A]."""
        return exponential_noise((*shape, self.params_size), generator)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Draws one-hot actions [..., A]."""
        return straight_through(params, noise)

    def mode(self, params: Tensor) -> Tensor:
        """Returns the most likely action, one-hot."""
        return F.one_hot(params.argmax(-1), self.params_size).to(params.dtype)

    def preference(self, params: Tensor) -> Tensor:
        """Returns the probabilities."""
        return params.softmax(-1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Log-probability of one-hot actions [..., A], shape [...]."""
        return (params.log_softmax(-1) * action).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats, shape [...]."""
        return categorical_entropy(params)


class ChoicesActions:
    """Several choices at once: independent one-hot parts, one behind the other; params are logits.

    ln p(a) and the entropy are the sums over the parts.

    Args:
        classes: size of each part; they sum to A.
    """

    def __init__(self, classes: tuple[int, ...]) -> None:
        self.params_size = sum(classes)
        self._classes = classes
        self._parts = [OneHotActions(count) for count in classes]

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws Exponential(1) noise [*shape, A]."""
        return exponential_noise((*shape, self.params_size), generator)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Draws actions [..., A], each part one-hot with straight-through gradients."""
        parts = zip(self._parts, self._split(params), self._split(noise), strict=True)
        return torch.cat([part.sample(p, n) for part, p, n in parts], -1)

    def mode(self, params: Tensor) -> Tensor:
        """Returns the most likely action, which is that of each part."""
        parts = zip(self._parts, self._split(params), strict=True)
        return torch.cat([part.mode(p) for part, p in parts], -1)

    def preference(self, params: Tensor) -> Tensor:
        """Returns the probabilities, which sum to 1 in each part."""
        return torch.cat([p.softmax(-1) for p in self._split(params)], -1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Log-probability of actions [..., A], shape [...]."""
        parts = zip(self._parts, self._split(params), self._split(action), strict=True)
        return torch.stack([part.log_prob(p, a) for part, p, a in parts]).sum(0)

    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats, shape [...]."""
        return torch.stack([categorical_entropy(p) for p in self._split(params)]).sum(0)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self._classes, -1)


class TruncatedNormalActions:
    """Continuous actions on [-1, 1]: normals cut at the bounds; params hold A means, A raw stds.

    mean = tanh(m),  std = 2 * sigmoid(s / 2) + 0.1
    Sampled by inverting the distribution function, which is differentiable in both.
    """

    def __init__(self, action_size: int) -> None:
        self.params_size = 2 * action_size

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws Uniform(0, 1) noise [*shape, A]."""
        shape = (*shape, self.params_size // 2)
        return torch.rand(shape, generator=generator, device=generator.device)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Returns reparameterised actions [..., A] in [-1, 1]."""
        mean, std = self._mean_std(params)
        low, high = self._bounds(mean, std)
        quantile = low + noise * (high - low)
        standard = torch.special.ndtri(quantile.clamp(_MIN_UNIFORM, 1 - _MIN_UNIFORM))
        action = mean + std * standard
        return action + (action.clamp(-1, 1) - action).detach()

    def mode(self, params: Tensor) -> Tensor:
        """Returns the mode, which is the mean before the cut since it lies inside the bounds."""
        return self._mean_std(params)[0]

    def preference(self, params: Tensor) -> Tensor:
        """Returns the mode."""
        return self.mode(params)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Log-density of actions [..., A], summed over A, shape [...]."""
        mean, std = self._mean_std(params)
        low, high = self._bounds(mean, std)
        standard = (action - mean) / std
        log_density = -0.5 * standard.square() - LOG_SQRT_2PI - std.log()
        return (log_density - (high - low).log()).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """Differential entropy in nats, summed over A, shape [...].

        With a, b the standardised bounds and Z = Phi(b) - Phi(a):
            ln(sqrt(2 pi e) * std * Z) + (a * phi(a) - b * phi(b)) / (2 Z)
        """
        mean, std = self._mean_std(params)
        low, high = self._bounds(mean, std)
        mass = high - low
        a, b = (-1 - mean) / std, (1 - mean) / std
        density_a = torch.exp(-0.5 * a.square() - LOG_SQRT_2PI)
        density_b = torch.exp(-0.5 * b.square() - LOG_SQRT_2PI)
        edge = (a * density_a - b * density_b) / (2 * mass)
        return (LOG_SQRT_2PI + 0.5 + (std * mass).log() + edge).sum(-1)

    def _mean_std(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = params.chunk(2, -1)
        return mean.tanh(), 2 * torch.sigmoid(raw / 2) + 0.1

    def _bounds(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Distribution function of the uncut normal at -1 and at 1."""
        return torch.special.ndtr((-1 - mean) / std), torch.special.ndtr((1 - mean) / std)


def make_actions(
    action_size: int, *, is_discrete: bool, classes: tuple[int, ...] | None = None
) -> ActionDistribution:
    """Returns the actor's distribution.

    Args:
        action_size: A.
        is_discrete: one-hot categorical; otherwise a truncated normal on [-1, 1].
        classes: of several choices at once, the size of each; None for one.
    """
    if classes is not None:
        return ChoicesActions(classes)
    return OneHotActions(action_size) if is_discrete else TruncatedNormalActions(action_size)
