"""Scores of runs, as values: what was scored, what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer_core.scores.stamp import Stamp

LARGEST_SCORE = 1e100
"""Beyond which a number is none of a game, and squares of it overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRun:
    """What one run, one seed of a game, is scored."""

    game: str
    """As the Arcade Learning Environment names it."""
    seed: int | None
    """None where a CSV file does not say."""
    score: float
    """Mean return of its episodes."""
    source: str
    """Directory of the run, or file and line."""
    episodes: int | None = None
    """How many the mean is of; None where nobody recorded it, as below."""
    from_frame: float | None = None
    """Env frame of the oldest of them."""
    to_frame: float | None = None
    """Env frame of the newest of them."""
    stamp: Stamp = field(default_factory=Stamp)
    """Protocol and settings; empty where they are not known."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was named and has no score."""

    source: str
    reason: str
    """What is the matter and what to do, a sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class CollectedRuns:
    """What was found at the places that were named."""

    runs: list[ScoredRun] = field(default_factory=list[ScoredRun])
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    warnings: list[str] = field(default_factory=list[str])
    """What is wrong with runs that are scored nevertheless."""

    def add(self, other: CollectedRuns) -> None:
        """Takes in what was found elsewhere."""
        self.runs.extend(other.runs)
        self.left_out.extend(other.left_out)
        self.warnings.extend(other.warnings)
