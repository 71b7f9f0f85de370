"""Where a run stands: a value that each report advances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from types import MappingProxyType

from dreamer_core.report.metrics import checked_values, is_of_newest_weights, training_episodes
from dreamer_core.report.report import Report
from services.terminal.format import format_number
from services.terminal.sparkline import ReturnCurve

RECENT_EPISODES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands."""

    total_policy_steps: int
    """Policy steps after which the run ends."""
    total_gradient_steps: int | None = None
    """Gradient steps that fall due by then; None if that is not known."""
    is_offline: bool = False
    """Whether it only takes gradient steps, and policy steps only stand for them."""
    started_s: float
    """Clock at the start of this display; the clock only needs to run evenly."""
    policy_step: int = 0
    """Policy steps of the run, those before a resume included."""
    gradient_step: int = 0
    """Gradient steps of the run."""
    values: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Newest value of each metric."""
    returns: tuple[float, ...] = ()
    """Returns of the newest training episodes, oldest first."""
    curve: ReturnCurve | None = None
    """Returns over the whole run; None where nobody looks at them."""

    @property
    def share(self) -> float:
        """Part of the run that is done, in [0, 1]."""
        return min(1.0, self.policy_step / self.total_policy_steps)

    @property
    def done(self) -> str:
        """So many steps of so many, in words."""
        step, total = self.policy_step, f"{format_number(self.total_policy_steps)} policy"
        if self.is_offline:
            step, total = self.gradient_step, f"{format_number(self.total_gradient_steps)} gradient"
        return f"{format_number(step)} of {total} steps"

    @property
    def env_frames(self) -> float | None:
        """Simulator frames of `policy_step`, which is newer than what was reported of both."""
        steps, frames = (
            self.values.get(f"dreamer_{name}_total") for name in ("policy_steps", "env_frames")
        )
        return frames * self.policy_step / steps if frames and steps else frames

    @property
    def mean_return(self) -> float | None:
        """Of the newest training episodes; None before the first has ended."""
        return mean(self.returns) if self.returns else None

    @property
    def policy_steps_per_second(self) -> float | None:
        """Speed as reported; None before it is, and where none are taken."""
        return None if self.is_offline else self.values.get("dreamer_policy_steps_per_second")

    @property
    def gradient_steps_per_second(self) -> float | None:
        """Speed as reported; None before it is."""
        return self.values.get("dreamer_gradient_steps_per_second")

    @property
    def time_left_s(self) -> float | None:
        """Seconds to the end at the present speed; None while that is not known.

        Those of the gradient steps: in the last seconds the policy steps may have been those of the
        random play, which is faster than what follows, and after a kill gradient steps that were
        lost may be all that is left.
        """
        total, rate = self.total_gradient_steps, self.gradient_steps_per_second
        return max(0, total - self.gradient_step) / rate if total is not None and rate else None

    def advance(self, report: Report, *, policy_step: int, gradient_step: int) -> Progress:
        """Returns the progress after one more report; evaluations of old weights are left out."""
        values = checked_values(report) if is_of_newest_weights(report) else {}
        episodes = training_episodes(report)
        ended = (episode.episode_return for episode in episodes)
        return replace(
            self,
            policy_step=policy_step,
            gradient_step=gradient_step,
            values=MappingProxyType({**self.values, **values}),
            returns=(*self.returns, *ended)[-RECENT_EPISODES:],
            curve=self.curve and self.curve.with_episodes(episodes),
        )
