"""What a world model predicts of episodes that it was not trained on, by steps ahead."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer_core.types import FloatArray, UInt8Array

LONGEST_SEQUENCE = 1_000
"""Rows of context and horizon together, at most: a sequence of them is held in memory whole."""
SEQUENCES, CONTEXT, HORIZON = 50, 5, 45
"""Of an analysis where nothing else is asked for: with it each row of 2,500 is seen about once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How often what was predicted came true, by what was predicted: one row a bin."""

    predicted: FloatArray
    """[bins], mean probability of going on; empty bins are left out."""
    observed: FloatArray
    """[bins], share of the rows that went on."""
    count: FloatArray
    """[bins], rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldModelAnalysis:
    """Means over held-out sequences, of which the model saw the first `context` rows.

    From there on it imagines from the actions alone; row k of a curve is k + 1 steps ahead. A
    sequence lies within one episode: where that ends sooner, later rows are without it.
    """

    policy_step: int
    """Of the run when the weights were made."""
    gradient_step: int
    """The same in gradient steps."""
    sequences: int
    """Held-out sequences."""
    context: int
    """Rows seen before the first imagined one."""
    reached: FloatArray
    """[H], sequences behind row k of each curve, all of them or fewer; 1 or more."""
    image_error: FloatArray
    """[H], mean squared error of a pixel, images in [0, 1]; empty where there are no images."""
    copied_image_error: FloatArray
    """[H], of the baseline: the last image seen, kept."""
    reward_error: FloatArray
    """[H], mean squared error of the expected reward as the model learns it (tanh on Atari)."""
    mean_reward_error: FloatArray
    """[H], of the baseline: the mean reward of these rows, kept."""
    seen_reward_error: float
    """As `reward_error`, over all of these rows, of the posteriors that saw their images."""
    overall_mean_reward_error: float
    """As `mean_reward_error`, over all of these rows; 0 where their rewards are alike."""
    kl: FloatArray
    """[H], nats: of the posterior that saw each image up to row t from the prior imagined there."""
    discount: Reliability
    """Of the imagined rows: going on, which is discount / gamma, against the episode's own end."""
    latent_usage: FloatArray
    """[variables, classes], share of the rows whose posterior drew the class; empty if Gaussian."""
    latent_entropy: FloatArray
    """[variables], mean entropy of the posterior in nats; empty if Gaussian."""
    truth: UInt8Array
    """[T, height, width, 1 or 3], one sequence, context first; bars where only a vector is seen."""
    model: UInt8Array
    """The same as the model reconstructs and, from `context` on, imagines it."""
