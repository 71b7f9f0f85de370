"""Where a run stands, told every few seconds, and which life of the collector comes next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from dreamer_core.replay.replay import ReplayCounts
from dreamer_core.replay.rewind import RewindTarget
from dreamer_core.report.report import Report
from dreamer_core.run.schedule import Schedule

Observer = Callable[[Report, int, int], None]
"""Is shown each report with the policy steps and gradient steps of the run."""


class Speed:
    """Steps a second over the last 30 s, as tables, logs, `dreamer status` and Prometheus have it.

    Args:
        now_s: a clock that never goes back.
        steps: taken so far; not counted.
    """

    window_s = 30.0

    def __init__(self, now_s: float, steps: int) -> None:
        self._samples = deque([(now_s, steps)])

    def at(self, now_s: float, steps: int) -> float:
        """Returns the speed, with so many steps taken by now."""
        samples = self._samples
        samples.append((now_s, steps))
        while len(samples) > 2 and samples[1][0] <= now_s - self.window_s:
            samples.popleft()
        since_s, before = samples[0]
        return max(0, steps - before) / max(now_s - since_s, 1e-9)  # asked twice at one instant


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
        self.forget_speed()
        self.counts = counts
        """Newest counts of the replay."""
        self.collector_values: Mapping[str, float] = {}
        """Newest values of the collector."""

    def forget_speed(self) -> None:
        """Begins to measure anew, where a run stands after its start or what was lost."""
        self._told_s = now_s = self._now_s()
        self._collecting = Speed(now_s, self._schedule.policy_steps)
        self._learning = Speed(now_s, self._schedule.gradient_steps)

    def is_due(self) -> bool:
        """Whether the interval has passed."""
        return self._now_s() - self._told_s >= self.interval_s

    def reports(self, *, checkpoint_age_s: float) -> list[Report]:
        """Returns speeds, ratio, policy age, and what replay and collector say.

        Args:
            checkpoint_age_s: seconds since the newest checkpoint.
        """
        schedule, self._told_s = self._schedule, self._now_s()
        values = {
            "dreamer_policy_steps_per_second": self._collecting.at(
                self._told_s, schedule.policy_steps
            ),
            "dreamer_gradient_steps_per_second": self._learning.at(
                self._told_s, schedule.gradient_steps
            ),
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


def next_incarnation(counts: ReplayCounts, target: RewindTarget | None, *, is_exact: bool) -> int:
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
