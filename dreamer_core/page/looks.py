"""What is shown of a run besides its log: what its world model predicts, and an episode."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer_core.report.analysis import WorldModelAnalysis
from dreamer_core.types import UInt8Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """An episode for looking at; no score."""

    frames: UInt8Array
    """[T, height, width, 1 or 3], as the agent sees them."""
    fps: float
    """Frames a second in the environment's own time."""
    episode_return: float
    """Up to its end, or to where it was cut off."""
    length: int
    """Policy steps."""
    is_cut: bool
    """It was not over."""
    policy_step: int
    """Of the run behind the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the page shows of one run besides its log."""

    analysis: WorldModelAnalysis | None = None
    played: Played | None = None
    missing: tuple[str, ...] = ()
    """Why something is not there."""
