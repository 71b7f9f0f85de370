"""One number for many games: the paper's aggregates, and those of Agarwal et al. (2021).

Scores are normalised per game with random play at 0: by a human gamer, or by the human world
record (DreamerV2, sec. 3). With x̄_g the mean over the seeds of game g:

    gamer_median          median over games of x̄_g, by gamer
    gamer_mean            mean over games of x̄_g, by gamer
    record_mean           mean over games of x̄_g, by record
    clipped_record_mean   mean over games of min(x̄_g, 1), by record
    iqm                   mean of the middle half of all runs of all games, by gamer
    optimality_gap        mean over all runs of 1 - min(x, 1), by gamer; less is better

The paper does not say whether seeds are clipped before or after their mean is taken; here the
mean is clipped, so that a score is the same whether its seeds come one by one or as their mean.
The last two are as in rliable: each run counts once, and int(n / 4) runs are cut at either end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dreamer_core.scores.table import table_k1

Scores: TypeAlias = Mapping[str, Sequence[float]]
"""By game, the score of each seed; at least one game, and one seed of each."""

RESAMPLES = 2_000
"""Bootstrap samples behind an interval."""
CONFIDENCE = 0.95
"""Share of them that lies inside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregates:
    """See the module's chart."""

    gamer_median: float
    gamer_mean: float
    record_mean: float
    clipped_record_mean: float
    iqm: float
    optimality_gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where an aggregate lies with CONFIDENCE, by the bootstrap over seeds."""

    low: float
    high: float


AGGREGATES = tuple(each.name for each in fields(Aggregates))
"""Names of the aggregates, in the order in which they are shown."""


def aggregate(scores: Scores) -> Aggregates:
    """Returns every aggregate over the games that are there.

    Raises:
        KeyError: a game is not in Table K.1.
    """
    by_gamer, by_record = _normalised(scores)
    values = _aggregates([row[None] for row in by_gamer], [row[None] for row in by_record])
    return Aggregates(**{name: float(value[0]) for name, value in values.items()})


def intervals(
    scores: Scores, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval] | None:
    """Returns by aggregate its percentile interval, by the stratified bootstrap of rliable.

    A sample draws as many seeds of each game as there are, with replacement; games are not drawn.
    A game with one seed is taken for certain.

    Args:
        scores: of at least one game.
        resamples: how many samples are drawn.
        seed: of the draws.

    Returns:
        None where no game has two seeds: nothing is known of what another seed would give.
    """
    if all(len(seeds) < 2 for seeds in scores.values()):
        return None
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(seeds), size=(resamples, len(seeds))) for seeds in scores.values()]
    by_gamer, by_record = _normalised(scores)
    samples = _aggregates(
        [row[draw] for row, draw in zip(by_gamer, draws, strict=True)],
        [row[draw] for row, draw in zip(by_record, draws, strict=True)],
    )
    return {name: percentiles(each) for name, each in samples.items()}


def percentiles(samples: NDArray[np.float64]) -> Interval:
    """Returns where CONFIDENCE of the samples lie, as many of the others below as above."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return Interval(low=float(low), high=float(high))


def to_json(aggregates: Aggregates, of: Mapping[str, Interval] | None) -> dict[str, Any]:
    """Returns each aggregate's value, and its interval or None, as plain dictionaries."""
    return {
        name: {"value": value, "interval": None if of is None else [of[name].low, of[name].high]}
        for name, value in asdict(aggregates).items()
    }


def _normalised(scores: Scores) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Returns for each game its seeds' scores [seeds], by gamer and by record."""
    rows = {game: table_k1()[game] for game in scores}
    by_gamer = [np.array([rows[g].by_gamer(x) for x in seeds]) for g, seeds in scores.items()]
    by_record = [np.array([rows[g].by_record(x) for x in seeds]) for g, seeds in scores.items()]
    return by_gamer, by_record


def _aggregates(
    by_gamer: Sequence[NDArray[np.float64]], by_record: Sequence[NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Returns each aggregate [samples] of games, each [samples, seeds]."""
    gamer = np.stack([each.mean(axis=1) for each in by_gamer], axis=1)  # [samples, games]
    record = np.stack([each.mean(axis=1) for each in by_record], axis=1)
    runs = np.sort(np.concatenate(by_gamer, axis=1), axis=1)  # [samples, runs]
    cut = runs.shape[1] // 4
    return {
        "gamer_median": np.median(gamer, axis=1),
        "gamer_mean": gamer.mean(axis=1),
        "record_mean": record.mean(axis=1),
        "clipped_record_mean": np.minimum(record, 1.0).mean(axis=1),
        "iqm": runs[:, cut : runs.shape[1] - cut].mean(axis=1),
        "optimality_gap": (1.0 - np.minimum(runs, 1.0)).mean(axis=1),
    }
