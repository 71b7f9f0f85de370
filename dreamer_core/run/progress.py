"""Where a run stands, told every few seconds, and which life of the collector comes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from dreamer_core.replay.replay import ReplayCounts
from dreamer_core.replay.rewind import RewindTarget
from dreamer_core.run.schedule import Schedule
from dreamer_core.types import Report

Observer = Callable[[Report, int, int], None]
"""Is shown each report with the policy steps and gradient steps of the run."""


class Pulse:
    """Reports where a run stands every few seconds, however fast it goes: logs stay small.

    Args:
        schedule: whose counts are watched.
        counts: of the replay, to be renewed by whoever inserts.
        frames_per_policy_step: env frames of each.
        now_s: a clock that never goes back.
    """

    interval_s = 2.0

    def __init__(
        self,
        schedule: Schedule,
        counts: ReplayCounts,
        frames_per_policy_step: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._frames_per_policy_step = frames_per_policy_step
        self._now_s = now_s
        self._started_s = now_s()
        self._policy_steps = schedule.policy_steps
        self.counts = counts
        """Newest counts of the replay."""
        self.collector_values: Mapping[str, float] = {}
        """Newest values of the collector."""

    def forget_speed(self) -> None:
        """Begins to measure anew, after a run was taken back to a checkpoint."""
        self._started_s, self._policy_steps = self._now_s(), self._schedule.policy_steps

    def is_due(self) -> bool:
        """Whether the interval has passed."""
        return self._now_s() - self._started_s >= self.interval_s

    def reports(self, *, checkpoint_age_s: float) -> list[Report]:
        """Returns speed since the last call, ratio, policy age, and what replay and collector say.

        Args:
            checkpoint_age_s: seconds since the newest checkpoint.
        """
        schedule, now_s = self._schedule, self._now_s()
        elapsed_s = max(now_s - self._started_s, 1e-9)  # asked twice at one instant of the clock
        speed = (schedule.policy_steps - self._policy_steps) / elapsed_s
        self._started_s, self._policy_steps = now_s, schedule.policy_steps
        values = {
            "dreamer_policy_steps_per_second": speed,
            "dreamer_checkpoint_age_seconds": checkpoint_age_s,
            "dreamer_wanted_policy_steps_per_gradient_step": float(schedule.wanted_ratio),
        }
        ratio = schedule.ratio()
        if ratio is not None:
            values["dreamer_policy_steps_per_gradient_step"] = ratio
        if schedule.published_version is not None:
            lag = schedule.gradient_steps - schedule.published_version
            values["dreamer_policy_lag_gradient_steps"] = float(lag)
        reports = [
            Report(service="supervisor", values=values),
            replay_report(self.counts, self._frames_per_policy_step),
        ]
        if self.collector_values:
            reports.append(Report(service="collector", values=self.collector_values))
        return reports


def replay_report(counts: ReplayCounts, frames_per_policy_step: int) -> Report:
    """What the replay holds and has acknowledged, as a report."""
    return Report(
        service="replay",
        values={
            "dreamer_policy_steps_total": counts.policy_steps,
            "dreamer_env_frames_total": counts.policy_steps * frames_per_policy_step,
            "dreamer_episodes_total": counts.episodes,
            "dreamer_replay_short_episodes": counts.short_episodes,
            "dreamer_replay_steps": counts.stored_steps,
            "dreamer_replay_episodes": counts.stored_episodes,
            "dreamer_replay_bytes": counts.stored_bytes,
            "dreamer_fenced_inserts_total": counts.fenced_inserts,
            "dreamer_repaired_records_total": counts.repaired_records,
        },
    )


def next_incarnation(
    counts: ReplayCounts, target: RewindTarget | None, *, is_exact: bool = False
) -> int:
    """Number of the collector's next life, from 0.

    Args:
        counts: of the replay.
        target: of the checkpoint, if that can be resumed exactly.
        is_exact: the run goes on from there, and the collector with its old number; else the number
            is above all that replay and checkpoint have seen.
    """
    seen = -1 if counts.last_incarnation is None else counts.last_incarnation
    if target is None:
        return seen + 1
    return target.incarnation if is_exact else max(seen, target.incarnation) + 1
