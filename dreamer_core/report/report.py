"""What a service tells of itself, to be handed to every sink. Readers of logs import it: no numpy.

The table of metrics in metrics.py says what the names mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSummary:
    """One finished episode, for the logs."""

    policy_step: int
    """Policy steps of the run (collector) when it ended."""
    episode_return: float
    """Sum of the raw rewards."""
    length: int
    """Policy steps of the episode."""
    info: Mapping[str, float] = field(default_factory=dict[str, float])
    """Last values in the episode of the keys that `env.log_info` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Numbers that a service measured. Goes unchanged to Prometheus, TensorBoard and JSONL."""

    service: str
    """collector, replay, learner, evaluator or supervisor."""
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    """Metric name (see report.metrics.METRICS) to value."""
    episodes: tuple[EpisodeSummary, ...] = ()
    """Episodes that ended since the last report."""
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Facts that qualify the values, such as the weights version of an evaluation."""
    observations: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict[str, tuple[float, ...]]
    )
    """Of a histogram, the single observations of which its value is the mean; not in JSONL."""
    pictures: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """PNG files by tag; for TensorBoard alone."""
    is_restart: bool = False
    """Nothing was measured: the run goes on from here, and what was said of later steps is void."""
