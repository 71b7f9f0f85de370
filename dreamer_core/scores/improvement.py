"""How likely a run of one agent beats a run of another (Agarwal et al. 2021, sec. 4.3).

    P(X > Y) = mean over games of P(X_g > Y_g)
    P(X_g > Y_g) = 1 / (N K) Σ_i Σ_j S(x_i, y_j),    S = 1 if x > y, 1/2 if x = y, 0 if x < y

Seeds are drawn within each game and agent for its interval, as in rliable. It says how often, not
by how much; 1/2 is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamer_core.scores.aggregate import RESAMPLES, Interval, Scores, percentiles

_SEED = 0  # of the draws


@dataclass(frozen=True, slots=True)
class Improvement:
    """Of one agent over another."""

    probability: float
    interval: Interval | None
    """None where no game has two seeds of either agent."""
    games: tuple[str, ...]
    """That both played; the others do not count."""


def improvement(scores: Scores, over: Scores, *, resamples: int = RESAMPLES) -> Improvement | None:
    """Returns P(X > Y) of the agent with `scores` over the other one, over their common games.

    Args:
        scores: X, of each game its seeds; higher is better.
        over: Y, the same.
        resamples: bootstrap samples behind the interval.

    Returns:
        None without a game that both played.
    """
    games = tuple(game for game in scores if game in over)
    if not games:
        return None
    pairs = [(np.asarray(scores[g], float), np.asarray(over[g], float)) for g in games]
    probability = float(np.mean([_share(x[None], y[None])[0] for x, y in pairs]))
    if all(len(x) < 2 and len(y) < 2 for x, y in pairs):
        return Improvement(probability, None, games)
    rng = np.random.default_rng(_SEED)
    samples = np.mean(
        [_share(_drawn(x, resamples, rng), _drawn(y, resamples, rng)) for x, y in pairs], axis=0
    )
    return Improvement(probability, percentiles(samples), games)


def interval_of_mean(scores: Sequence[float]) -> Interval | None:
    """Returns where the mean over seeds lies, by the percentile bootstrap; None of a single one."""
    if len(scores) < 2:
        return None
    drawn = _drawn(np.asarray(scores, float), RESAMPLES, np.random.default_rng(_SEED))
    return percentiles(drawn.mean(axis=1))


def _share(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns of each sample the share of pairs that x wins; x and y [samples, seeds]."""
    difference = np.sign(x[:, :, None] - y[:, None, :])
    return (difference.mean(axis=(1, 2)) + 1) / 2


def _drawn(
    scores: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Returns as many of the seeds, with replacement: [resamples, seeds]."""
    return scores[rng.integers(len(scores), size=(resamples, len(scores)))]
