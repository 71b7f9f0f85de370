"""The report of scores: every game beside the paper's agents, and one number over all of them."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dreamer_core.scores.aggregate import (
    CONFIDENCE,
    RESAMPLES,
    Aggregates,
    Interval,
    aggregate,
    intervals,
    to_json,
)
from dreamer_core.scores.atari5 import estimated_median
from dreamer_core.scores.scored import CollectedRuns, ScoredRun
from dreamer_core.scores.stamp import differences, unlike_the_paper
from dreamer_core.scores.table import AGENTS, Agent, GameRow, table_k1

_SEED = 0  # of the bootstrap
_SAME_FRAMES = 1.1  # times as many are taken for the same


@dataclass(frozen=True, slots=True)
class GameScore:
    """The scored runs of one game; at least one."""

    row: GameRow
    runs: tuple[ScoredRun, ...]

    @property
    def scores(self) -> list[float]:
        """Of each run."""
        return [run.score for run in self.runs]

    @property
    def mean(self) -> float:
        """Over the runs."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the runs, with n - 1; None of a single one."""
        return statistics.stdev(self.scores) if len(self.runs) > 1 else None

    @property
    def frames(self) -> tuple[float, float] | None:
        """Smallest and largest env frame at which a run is scored; None where none is known."""
        known = [run.to_frame for run in self.runs if run.to_frame is not None]
        return (min(known), max(known)) if known else None


class Summary:
    """What collected scores say, computed when asked for.

    Args:
        collected: at least one scored run.
    """

    def __init__(self, collected: CollectedRuns) -> None:
        self.collected = collected
        by_game: dict[str, list[ScoredRun]] = {}
        for run in collected.runs:
            by_game.setdefault(run.game, []).append(run)
        rows = table_k1()
        self.games = [GameScore(rows[g], tuple(by_game[g])) for g in rows if g in by_game]
        """In the order of Table K.1."""
        self.missing = [game for game in rows if game not in by_game]
        """Games of the paper without a score."""

    @property
    def scores(self) -> dict[str, list[float]]:
        """By game, those of each run."""
        return {game.row.game: game.scores for game in self.games}

    @functools.cached_property
    def aggregates(self) -> Aggregates:
        """Over the games that are there."""
        return aggregate(self.scores)

    @functools.cached_property
    def intervals(self) -> dict[str, Interval] | None:
        """Of the aggregates; None where every game has one seed."""
        return intervals(self.scores, seed=_SEED)

    @functools.cached_property
    def references(self) -> dict[Agent, Aggregates]:
        """The aggregates of the paper's agents over the same games."""
        return {
            agent: aggregate({game.row.game: [game.row.of(agent)] for game in self.games})
            for agent in AGENTS
        }

    @property
    def atari5(self) -> float | None:
        """The estimate of the median over 57 games; None unless its five games are there."""
        return estimated_median({game.row.game: game.mean for game in self.games})

    @property
    def num_single(self) -> int:
        """How many games have one seed."""
        return sum(len(game.runs) == 1 for game in self.games)

    @property
    def fewest_seeds(self) -> int:
        """Of the game that has fewest."""
        return min(len(game.runs) for game in self.games)

    @property
    def warnings(self) -> list[str]:
        """Why scores may not be comparable, and what is wrong with runs that are scored."""
        found = list(self.collected.warnings)
        frames = [run.to_frame for run in self.collected.runs if run.to_frame is not None]
        if frames and max(frames) > _SAME_FRAMES * min(frames):
            found.append(
                f"runs are scored at {min(frames):,.0f} to {max(frames):,.0f} frames; "
                "`dreamer scores --at-frames` compares them at one"
            )
        if len({len(game.runs) for game in self.games}) > 1:
            found.append(
                "games have different numbers of seeds: in iqm and optimality_gap each run counts "
                "once, so that games with more seeds count more"
            )
        unlike = unlike_the_paper([run.stamp for run in self.collected.runs])
        if unlike:
            found.append(f"not the protocol of the paper's columns: {'; '.join(unlike)}")
        return found

    @property
    def differences(self) -> list[str]:
        """What is not the same in the stamps of all runs, a line for each fact."""
        return differences([run.stamp for run in self.collected.runs])

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values: runs, games, aggregates, stamps, what is missing."""
        return {
            "num_games": len(self.games),
            "num_games_of_paper": len(table_k1()),
            "aggregates": to_json(self.aggregates, self.intervals),
            "interval": {
                "method": "percentiles of the stratified bootstrap over the seeds of each game",
                "confidence": CONFIDENCE,
                "resamples": RESAMPLES,
                "seed": _SEED,
                "games_with_one_seed": self.num_single,
            },
            "references": {agent: asdict(each) for agent, each in self.references.items()},
            "atari5_estimated_median": self.atari5,
            "games": [_game_json(game) for game in self.games],
            "missing_games": self.missing,
            "runs": [asdict(run) for run in self.collected.runs],
            "left_out": [asdict(each) for each in self.collected.left_out],
            "differences": self.differences,
            "warnings": self.warnings,
        }


def _game_json(game: GameScore) -> Mapping[str, Any]:
    row = game.row
    normalised = {"by_gamer": row.by_gamer(game.mean), "by_record": row.by_record(game.mean)}
    return {
        "game": row.game,
        "mean": game.mean,
        "standard_deviation": game.deviation,
        "seeds": len(game.runs),
        "frames": _listed(game.frames),
        **normalised,
        **{name: value for name, value in asdict(row).items() if name not in ("title", "game")},
    }


def _listed(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else list(values)
