"""The returns of a run as one line of bars, beside those of random play."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rich.text import Text

from dreamer_core.report.report import EpisodeSummary
from services.terminal.format import format_number

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Bars of a whole run; each is the mean of the episodes that ended in its part of the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnCurve:
    """Mean return in each part of the run, and that of random play."""

    total_policy_steps: int
    """Policy steps after which the run ends."""
    random_policy_steps: int = 0
    """Policy steps of random play at the start of the run."""
    known_random_return: float | None = None
    """Mean return of random play, where it is known; else that of the start is taken."""
    sums: tuple[float, ...] = field(default=(0.0,) * WIDTH)
    """Of the returns in each part."""
    counts: tuple[int, ...] = field(default=(0,) * WIDTH)
    """Episodes in each part."""
    random: tuple[float, int] = (0.0, 0)
    """Sum of the returns of episodes that random play ended, and their number."""

    def with_episodes(self, episodes: Iterable[EpisodeSummary]) -> ReturnCurve:
        """Returns the curve after these; a return that is no finite number has no place on it."""
        sums, counts, (random_sum, random_count) = list(self.sums), list(self.counts), self.random
        for episode in episodes:
            if not math.isfinite(episode.episode_return):
                continue
            part = min(WIDTH - 1, WIDTH * episode.policy_step // self.total_policy_steps)
            sums[part] += episode.episode_return
            counts[part] += 1
            if episode.policy_step <= self.random_policy_steps:
                random_sum += episode.episode_return
                random_count += 1
        return replace(
            self, sums=tuple(sums), counts=tuple(counts), random=(random_sum, random_count)
        )

    @property
    def random_return(self) -> float | None:
        """Mean return of random play; None while that is not known."""
        if self.known_random_return is not None:
            return self.known_random_return
        total, count = self.random
        return total / count if count else None

    def means(self) -> list[float | None]:
        """Mean return of each part up to the newest that has one; None where no episode ended."""
        parts = zip(self.sums, self.counts, strict=True)
        means = [total / count if count else None for total, count in parts]
        while means and means[-1] is None:
            means.pop()
        return means


def sparkline(curve: ReturnCurve) -> Text | None:
    """Draws the curve: green above random play, dim below. None before the first episode's end.

    The lowest bar is the lowest mean or random play, the highest the highest of them.
    """
    means, level = curve.means(), curve.random_return
    known = [mean for mean in means if mean is not None]
    if not known:
        return None
    bounds = known if level is None else [*known, level]
    low, high = min(bounds), max(bounds)
    line = Text("return ")
    for mean in means:
        if mean is None:
            line.append(" ")
        else:
            share = (mean - low) / (high - low) if high > low else 0.0
            is_better = level is not None and mean > level
            line.append(BARS[round(share * (len(BARS) - 1))], "green" if is_better else "dim")
    line.append(f" {format_number(known[-1])}")
    return line if level is None else line.append(f" (random play {format_number(level)})", "dim")
