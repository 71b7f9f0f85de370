"""Distributions of latents, sampled like those of actions.py from noise drawn beforehand.

Drawing the noise of all time steps at once keeps random numbers out of the recurrent scan, makes
a step a pure function of its inputs, and lets a test inject any outcome. All in float32.

A categorical sample is `argmax(probs / noise)` with independent Exponential(1) noise per class:
the smallest of the arrival times noise / probs is class i with probability probs_i.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
"""0.5 ln(2 pi), of a normal's density."""


def seeded_generator(device: torch.device, *words: int) -> torch.Generator:
    """Returns a generator whose stream depends on the words alone, such as (seed, gradient_step).

    Random numbers that are keyed by a counter need no saved state: a resumed run draws what the
    interrupted one would have drawn.
    """
    seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(seed)


def exponential_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws Exponential(1) noise of the given shape on the generator's device.

    As -ln(u) of uniform u, at a fifth of the time that torch's own takes on a CPU. Noise
    above 16.6 = 24 ln 2 comes as infinity alone (u = 0): a class that is not drawn.
    """
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return uniform.log_().neg_()


def draw_one_hot(probs: Tensor, noise: Tensor) -> Tensor:
    """Draws one-hot samples from probs [..., C] with Exponential(1) noise [..., C]; no gradient."""
    index = _drawn(probs.detach(), noise)
    return torch.zeros_like(probs).scatter_(-1, index, 1.0)


def _drawn(probs: Tensor, noise: Tensor) -> Tensor:
    """Class of each sample, [..., 1]."""
    return (probs / noise).argmax(-1, keepdim=True)


def straight_through(logits: Tensor, noise: Tensor) -> Tensor:
    """Draws one-hot samples [..., C] whose gradient is that of the probabilities (Algorithm 1).

    Returns `sample + probs - sg(probs)`, summed so that the value is exactly the one-hot sample.
    """
    probs = logits.softmax(-1)
    sample = draw_one_hot(probs, noise)
    return sample + (probs - probs.detach()) if probs.requires_grad else sample


def categorical_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of categoricals with logits [..., C], shape [...]."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


class Latent(Protocol):
    """A family of S independent latent variables; `stats` [..., S, P] holds their parameters."""

    @property
    def size(self) -> int:
        """Z, length of a flattened sample."""
        ...

    @property
    def stats_shape(self) -> tuple[int, int]:
        """(S, P)."""
        ...

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws the noise of samples with these leading axes."""
        ...

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Returns samples [..., Z]; gradients reach the stats."""
        ...

    def sample_at(self, stats: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns `sample` without gradients, and its `position`; on the CPU."""
        ...

    def position(self, sample: Tensor) -> Tensor | None:
        """Where a one-hot sample [..., Z] is one, int64 [..., S]; None for any other family."""
        ...

    def kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """KL(posterior || prior) in nats, summed over the S variables, shape [...]."""
        ...

    def entropy(self, stats: Tensor) -> Tensor:
        """Entropy in nats, summed over the S variables, shape [...]."""
        ...


class CategoricalLatent:
    """S categoricals of C classes with straight-through gradients (sec. 2.1); stats are logits."""

    def __init__(self, stoch: int, classes: int) -> None:
        self.stats_shape = (stoch, classes)
        self.size = stoch * classes
        self._first = torch.arange(stoch) * classes  # where each variable begins in a flat sample

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws Exponential(1) noise [*shape, S, C]."""
        return exponential_noise((*shape, *self.stats_shape), generator)

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Draws one-hot samples, flattened to [..., S * C]."""
        return straight_through(stats, noise).flatten(-2)

    def sample_at(self, stats: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draws samples [..., S * C] and where they are one, [..., S]; on the CPU."""
        index = _drawn(stats.softmax(-1), noise)
        sample = torch.zeros_like(stats).scatter_(-1, index, 1.0)
        return sample.flatten(-2), index.squeeze(-1) + self._first

    def position(self, sample: Tensor) -> Tensor:
        """Where the samples [..., S * C] are one, [..., S]; for samples on the CPU."""
        return sample.unflatten(-1, self.stats_shape).argmax(-1) + self._first

    def kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """KL(posterior || prior) in nats, summed over S: [..., S, C] to [...]."""
        log_posterior, log_prior = posterior.log_softmax(-1), prior.log_softmax(-1)
        return (log_posterior.exp() * (log_posterior - log_prior)).sum((-2, -1))

    def entropy(self, stats: Tensor) -> Tensor:
        """Entropy in nats, summed over S: [..., S, C] to [...]."""
        return categorical_entropy(stats).sum(-1)


class GaussianLatent:
    """S independent Gaussians, as in DreamerV1 (ablation); stats hold (mean, raw std).

    std = 2 * sigmoid(raw / 2) + 0.1
    """

    def __init__(self, stoch: int) -> None:
        self.stats_shape = (stoch, 2)
        self.size = stoch

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws standard normal noise [*shape, S]."""
        shape = (*shape, self.size)
        return torch.randn(shape, generator=generator, device=generator.device)

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Returns reparameterised samples [..., S]."""
        mean, std = self._mean_std(stats)
        return mean + std * noise

    def sample_at(self, stats: Tensor, noise: Tensor) -> tuple[Tensor, None]:
        """Returns samples, and no position: they are not one-hot."""
        return self.sample(stats, noise), None

    def position(self, sample: Tensor) -> None:
        """None: the samples are not one-hot."""

    def kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """KL(posterior || prior) in nats, summed over S: [..., S, 2] to [...]."""
        mean, std = self._mean_std(posterior)
        prior_mean, prior_std = self._mean_std(prior)
        ratio = (std / prior_std).square()
        shift = ((mean - prior_mean) / prior_std).square()
        return 0.5 * (ratio + shift - 1 - ratio.log()).sum(-1)

    def entropy(self, stats: Tensor) -> Tensor:
        """Entropy in nats, summed over S: [..., S, 2] to [...]."""
        _, std = self._mean_std(stats)
        return (std.log() + 0.5 + LOG_SQRT_2PI).sum(-1)

    def _mean_std(self, stats: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = stats.unbind(-1)
        return mean, 2 * torch.sigmoid(raw / 2) + 0.1
