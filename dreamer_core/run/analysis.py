"""Measures what a world model predicts of episodes that it was not trained on.

Episodes are played anew with the checkpoint's policy, its actions sampled as those it was trained
on, in an environment with a seed of its own; no row comes from the replay.

    row of a sequence   0 .. context - 1    context    ..    context + k    (as in types.py)
    seen                image, prev_action  prev_action alone, which led to the image of its row
    model               posterior           imagined 1, ..., k + 1 steps ahead
    compared with       -                   image, reward and end of the same row
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.device import to_tensors
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.bars import picture_of
from dreamer_core.envs.suites import opened
from dreamer_core.errors import BadInput
from dreamer_core.model.distributions import (
    CategoricalLatent,
    categorical_entropy,
    seeded_generator,
)
from dreamer_core.model.networks import image_to_float
from dreamer_core.report.analysis import (
    CONTEXT,
    HORIZON,
    LONGEST_SEQUENCE,
    SEQUENCES,
    Reliability,
    WorldModelAnalysis,
)
from dreamer_core.run.restored import agent_in
from dreamer_core.run.rollout import Rollout
from dreamer_core.run.sequences import lengths, liveliest, part
from dreamer_core.seeds import HELD_OUT_INCARNATION, Stream, env_seed
from dreamer_core.storage.identity import require_same_run
from dreamer_core.storage.named import load_named
from dreamer_core.types import Batch, BoolArray, EpisodeChunk, FloatArray, UInt8Array

logger = logging.getLogger(__name__)

CONTINUATIONS = 20
"""Imagined of each sequence: rewards and ends are expected ones, the means over all of them."""
_AT_ONCE = 50  # sequences in memory with their images, at most
_ROWS_AT_ONCE = 2_500  # the same in rows, unless a single sequence has more
_BINS = 10  # of the reliability diagram


def analyse_run(
    run_dir: Path | str,
    *,
    checkpoint: int | None = None,
    sequences: int = SEQUENCES,
    context: int = CONTEXT,
    horizon: int = HORIZON,
    seed: int = 0,
    say: Callable[[str], None] = logger.info,
) -> WorldModelAnalysis:
    """Plays `sequences * (context + horizon)` policy steps and measures what is predicted of them.

    Args:
        run_dir: of the run, or what else names a checkpoint; see `load_named`.
        checkpoint: gradient steps of the checkpoint; None for the newest that is whole.
        sequences: how many are drawn from what was played; fewer where there are not as many.
        context: rows of each that the model sees.
        horizon: steps ahead; fewer where no episode is as long.
        seed: of the episodes, and of what is drawn.
        say: is told what is done, in words.

    Raises:
        BadInput: an argument is out of range, there is no such checkpoint, or every episode is so
            short that nothing remains to be imagined.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`.
        EnvironmentCrashed: the simulator failed.
    """
    for name, value, least in [
        ("sequences", sequences, 1),
        ("context", context, 1),
        ("horizon", horizon, 1),
        ("seed", seed, 0),
    ]:
        if value < least:
            raise BadInput(f"{name}={value}: wanted {least} or more")
    if context + horizon > LONGEST_SEQUENCE:
        raise BadInput(
            f"context={context} and horizon={horizon}: wanted {LONGEST_SEQUENCE} or less together"
        )
    found = load_named(run_dir, checkpoint)
    agent = agent_in(found)
    config, incarnation = agent.config, HELD_OUT_INCARNATION + seed
    with opened(config.env, env_seed(config.seed, incarnation)) as env:
        require_same_run(found.facts, found.location, config, env.spec)
        rollout = Rollout(env, config, incarnation, PolicyNetwork(config, env.spec))
        steps = sequences * (context + horizon)
        say(f"plays {steps:,} policy steps with {found.location}")
        played = rollout.run(steps, policy_step=0, weights=agent.snapshot()).chunks
    rng = np.random.default_rng((seed, Stream.ANALYSIS.word))
    batch = draw_sequences(played, sequences, context=context, horizon=horizon, rng=rng)
    return analyse(
        agent, batch, context=context, seed=seed, policy_step=int(found.facts["policy_step"])
    )


def draw_sequences(
    episodes: Sequence[EpisodeChunk],
    count: int,
    *,
    context: int,
    horizon: int,
    rng: np.random.Generator,
) -> Batch:
    """Draws sequences of context + horizon rows, or up to where their episode stops.

    Each row of an episode that is followed by `context` others may be the first, and where the
    episode was cut short by who played it, each that all rows follow, if there is one. All of them
    are equally likely, and none is drawn twice.

    Args:
        episodes: each whole from its first row on, or cut short.
        count: of sequences; fewer if there are not as many.
        context: rows that the model will see.
        horizon: rows that it will imagine.
        rng: draws.

    Returns:
        [B, T], T as the longest needs it. After the end of an episode there are rows of zeros that
        are each reset.

    Raises:
        BadInput: no episode has more than `context` rows.
    """

    def first_rows(least_ahead: int) -> list[tuple[int, int]]:
        left_out = [0 if rows.is_last[-1] else least_ahead - 1 for rows in episodes]
        return [
            (i, t)
            for i, rows in enumerate(episodes)
            for t in range(len(rows) - context - left_out[i])
        ]

    starts = first_rows(horizon) or first_rows(1)
    if not starts:
        longest = max(map(len, episodes))
        raise BadInput(
            f"Wanted episodes of more than context={context} rows, so that one is left to be "
            f"imagined, but the longest of {len(episodes)} that were played has {longest}; "
            "lower the context"
        )
    chosen = rng.choice(len(starts), min(count, len(starts)), replace=False)
    parts = [(episodes[i], slice(t, t + context + horizon)) for i, t in (starts[j] for j in chosen)]
    rows = max(len(episode.reward[where]) for episode, where in parts)

    def column(name: str, filling: float = 0) -> np.ndarray:
        first = getattr(episodes[0], name)
        filled = np.full((len(parts), rows, *first.shape[1:]), filling, first.dtype)
        for sequence, (episode, where) in zip(filled, parts, strict=True):
            values = getattr(episode, name)[where]
            sequence[: len(values)] = values
        return filled

    is_first = column("is_first", True)
    is_first[:, 0] = True
    return Batch(
        image=column("image"),
        prev_action=column("prev_action"),
        reward=column("reward"),
        is_first=is_first,
        is_terminal=column("is_terminal"),
        vector=None if episodes[0].vector is None else column("vector"),
    )


@dataclass(frozen=True, slots=True)
class _Predicted:
    """What a model says of the rows behind the context, [B, H] unless it says otherwise."""

    image_error: Tensor
    """[B, 0] without images."""
    copied_image_error: Tensor
    reward: Tensor
    """Mean of the head and of all continuations."""
    seen_reward: Tensor
    """Of the posteriors."""
    true_reward: Tensor
    """As the model learns it."""
    kl: Tensor
    going_on: Tensor
    """Probability, mean of all continuations."""
    drawn: Tensor
    """One-hot samples of the posteriors [B, T, S, C]; [B, T, 0, 0] of Gaussians."""
    entropy: Tensor
    """[B, T, S]; [B, T, 0] of Gaussians."""


def analyse(
    agent: DreamerAgent, batch: Batch, *, context: int, seed: int, policy_step: int
) -> WorldModelAnalysis:
    """Measures what an agent's world model predicts of sequences.

    Rows are left out from the first reset of a sequence on. Image and KL are of one continuation,
    as it is shown: far ahead the image error of a perfect model is that of another outcome than
    what came, as the copied image's is. Reward and going on are expected values, since a mean
    reward and a share are what they are compared with. The KL is an upper bound of that from
    the prior of all continuations together.

    Args:
        agent: on a CPU.
        batch: [B, T] sequences that it was not trained on, some not reset within the context.
        context: rows of each that the model sees.
        seed: of the latents.
        policy_step: policy steps of the run behind the weights.
    """
    generator = seeded_generator(agent.device, seed, Stream.ANALYSIS.word)
    size = len(batch.reward)
    at_once = min(_AT_ONCE, max(1, _ROWS_AT_ONCE // batch.reward.shape[1]))
    slices = [slice(i, i + at_once) for i in range(0, size, at_once)]
    parts = [_predict(agent, part(batch, where), context, generator) for where in slices]
    predicted = {
        name: torch.cat([getattr(p, name) for p in parts]).numpy() for name in _Predicted.__slots__
    }
    is_row = np.arange(batch.reward.shape[1]) < lengths(batch)[:, None]  # [B, T]
    is_there = is_row[:, context:]
    reward = predicted["true_reward"]
    mean_reward = reward[is_there].mean()
    truth, model = _example(agent, batch, context)

    def mean(values: np.ndarray) -> FloatArray:
        return _mean(values, is_there[:, : values.shape[1]])

    return WorldModelAnalysis(
        policy_step=policy_step,
        gradient_step=agent.gradient_step,
        sequences=int((is_there.any(1)).sum()),
        context=context,
        reached=is_there.sum(0).astype(np.float32),
        image_error=mean(predicted["image_error"]),
        copied_image_error=mean(predicted["copied_image_error"]),
        reward_error=mean((predicted["reward"] - reward) ** 2),
        mean_reward_error=mean((mean_reward - reward) ** 2),
        seen_reward_error=float(((predicted["seen_reward"] - reward) ** 2)[is_there].mean()),
        overall_mean_reward_error=float(reward[is_there].var()),
        kl=mean(predicted["kl"]),
        discount=reliability(
            predicted["going_on"][is_there], ~batch.is_terminal[:, context:][is_there]
        ),
        latent_usage=predicted["drawn"][is_row].mean(0),
        latent_entropy=predicted["entropy"][is_row].mean(0),
        truth=truth,
        model=model,
    )


def reliability(predicted: FloatArray, is_going_on: BoolArray) -> Reliability:
    """Sorts rows by what was predicted into ten bins of equal width.

    Args:
        predicted: [N], probabilities of going on.
        is_going_on: [N], what came.
    """
    place = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    is_filled = count > 0
    means = [
        (np.bincount(place, weights, _BINS)[is_filled] / count[is_filled]).astype(np.float32)
        for weights in (predicted, is_going_on)
    ]
    return Reliability(
        predicted=means[0], observed=means[1], count=count[is_filled].astype(np.float32)
    )


@torch.inference_mode()
def _predict(
    agent: DreamerAgent, batch: Batch, context: int, generator: torch.Generator
) -> _Predicted:
    model, data = agent.world_model, to_tensors(batch, agent.device)
    rssm, latent, rows = model.rssm, model.rssm.latent, tuple(data.reward.shape)
    observed = model.observe(data, latent.noise(rows, generator))
    last, ahead = observed.state.at(context - 1), (rows[0], rows[1] - context)
    continued = [
        rssm.imagine(last, data.prev_action[:, context:], latent.noise(ahead, generator))
        for _ in range(CONTINUATIONS)
    ]
    reward = torch.stack([model.predict_reward(states.feat) for states in continued]).mean(0)
    discount = torch.stack([model.predict_discount(states.feat) for states in continued])
    imagined = continued[0]
    true_reward = model.transform_reward(data.reward[:, context:])
    error = copied = true_reward[:, :0]
    mean = model.decode(imagined.feat).image
    if mean is not None:
        true = image_to_float(data.image)
        error = (mean.clamp(-0.5, 0.5) - true[:, context:]).square().mean((-3, -2, -1))
        last = true[:, context - 1 : context]
        copied = (last - true[:, context:]).square().mean((-3, -2, -1))
    shape = latent.stats_shape if isinstance(latent, CategoricalLatent) else (0, 0)
    stats = observed.posterior
    return _Predicted(
        image_error=error,
        copied_image_error=copied,
        reward=reward,
        seen_reward=model.predict_reward(observed.state.feat[:, context:]),
        true_reward=true_reward,
        kl=latent.kl(observed.posterior[:, context:], rssm.prior(imagined.deter)),
        going_on=(discount / model.gamma).clamp(0, 1).mean(0),
        drawn=observed.state.stoch[..., : shape[0] * shape[1]].unflatten(-1, shape),
        entropy=categorical_entropy(stats) if shape[0] else stats[..., :0, 0],
    )


def _example(agent: DreamerAgent, batch: Batch, context: int) -> tuple[UInt8Array, UInt8Array]:
    """Returns the liveliest of the longest sequences, and what the model makes of it."""
    index, length = liveliest(batch)
    shown = part(batch, slice(index, index + 1), slice(length))
    model = agent.open_loop(shown, context=context)[0]
    return picture_of(shown.image, shown.vector)[0], np.round(model * 255).astype(np.uint8)


def _mean(values: np.ndarray, is_there: BoolArray) -> FloatArray:
    """Means [H] of values [B, H] over the rows that are there."""
    return (np.where(is_there, values, 0).sum(0) / is_there.sum(0)).astype(np.float32)
