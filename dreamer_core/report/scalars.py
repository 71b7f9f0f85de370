"""A report as a line of the log, and as the curves that TensorBoard and a tracker draw."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dreamer_core.report.metrics import (
    checked_values,
    info_series,
    label_values,
    tag_of,
    training_episodes,
)
from dreamer_core.report.read import LogLine
from dreamer_core.report.report import Report


def line_of(
    report: Report, policy_step: int, gradient_step: int, frames_per_policy_step: int
) -> LogLine:
    """Returns a report as a line of the log, written now.

    Args:
        report: what a service measured.
        policy_step: policy steps of the run by now.
        gradient_step: gradient steps of the run by now.
        frames_per_policy_step: env frames of each.

    Raises:
        KeyError: as `checked_values`.
    """
    return LogLine(
        wall_time_s=time.time(),
        service=report.service,
        policy_step=policy_step,
        env_frame=policy_step * frames_per_policy_step,
        gradient_step=gradient_step,
        values=checked_values(report),
        episodes=report.episodes,
        labels=dict(report.labels),
    )


def scalars_of(
    report: Report, line: LogLine, frames_per_policy_step: int
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields (env frame, scalars): of each training episode at its own frame, then of the report.

    Tags are those of `tag_of`.

    Args:
        report: what a service measured.
        line: that it became in the log.
        frames_per_policy_step: env frames of each.
    """
    values = dict(line.values)
    for episode in training_episodes(report):
        frame = episode.policy_step * frames_per_policy_step
        scalars = {
            "dreamer_episode_return": episode.episode_return,
            "dreamer_episode_length_policy_steps": float(episode.length),
        }
        values = {name: value for name, value in values.items() if name not in scalars}
        yield frame, {tag_of(name): value for name, value in scalars.items()}
        told = episode.info.items()
        yield frame, {tag_of("dreamer_episode_info", (key,)): value for key, value in told}
    tagged = {tag_of(name, label_values(report, name)): value for name, value in values.items()}
    if report.service == "evaluator":
        series = info_series(report).items()
        tagged |= {tag_of(name, labels): value for (name, labels), value in series}
    yield line.env_frame, tagged
