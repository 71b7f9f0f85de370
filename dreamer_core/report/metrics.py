"""The table of every metric, and what a report may say.

A service measures, puts the numbers into a `Report` and knows no sink. Whoever receives reports
hands each one to every sink (`RunLog` in log.py, `PrometheusExporter` in services), so that a
number carries one name everywhere; TensorBoard and trackers sort them into groups (`tag_of`). What
the kinds mean in `Report.values`:

    counter     the total so far; only one service reports a given counter
    gauge       the value now, or the mean since the last report
    histogram   the mean since the last report; the single observations, where a sink can use
                them, in `Report.observations[name]`

What the numbers mean beyond their names is asked of `training_episodes` and `is_of_newest_weights`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dreamer_core.report.report import EpisodeSummary, Report

LATEST = "latest"
"""Label `weights` of an evaluation of the newest; of others it is the step of a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What one name stands for."""

    kind: Literal["counter", "gauge", "histogram"]
    """How sinks treat it; see this module's chart."""
    help: str
    """One sentence for people who meet the name on a dashboard."""
    labels: tuple[str, ...] = ()
    """Keys of `Report.labels` that tell apart several series of this name."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, ascending; empty for the other kinds."""


def _counter(text: str, *labels: str) -> Metric:
    return Metric(kind="counter", help=text, labels=labels)


def _gauge(text: str, *labels: str) -> Metric:
    return Metric(kind="gauge", help=text, labels=labels)


STEP_SECONDS_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
"""From a captured update on a GPU to the full-size model on a CPU; seconds."""

GROUPS: dict[str, dict[str, Metric]] = {
    "run": {
        "dreamer_policy_steps_total": _counter("Actions taken in the environment (after repeat)."),
        "dreamer_env_frames_total": _counter("Simulator frames: policy steps x frames of each."),
        "dreamer_gradient_steps_total": _counter(
            "Training steps of world model, actor and critic."
        ),
        "dreamer_episodes_total": _counter("Training episodes that ended."),
        "dreamer_restarts_total": _counter(
            "Times a service was replaced after it died.", "service"
        ),
        "dreamer_errors_total": _counter(
            "Times a service was lost or could not do its work.", "service"
        ),
        "dreamer_last_error_timestamp_seconds": _gauge("Unix time of the newest error.", "service"),
        "dreamer_dropped_reports_total": _counter(
            "Reports that metrics.jsonl or TensorBoard lack, since the disk was full."
        ),
    },
    "episode": {
        "dreamer_episode_return": _gauge("Sum of raw rewards of the newest training episode."),
        "dreamer_episode_length_policy_steps": _gauge("Length of the newest training episode."),
        "dreamer_episode_info": _gauge(
            "Last value in the newest training episode of a key that env.log_info names.", "key"
        ),
    },
    "evaluation": {
        "dreamer_evaluation_info": _gauge(
            "Mean over the newest evaluation of the last value in each episode of such a key.",
            *("mode", "weights", "key"),
        ),
        "dreamer_evaluation_return": _gauge(
            "Mean return of the newest evaluation.", "mode", "weights"
        ),
        "dreamer_evaluation_length_policy_steps": _gauge(
            "Mean episode length of the newest evaluation.", "mode", "weights"
        ),
        "dreamer_evaluation_policy_steps": _gauge(
            "Policy steps of the run behind the weights of the newest evaluation.",
            "mode",
            "weights",
        ),
        "dreamer_evaluation_gradient_steps": _gauge(
            "Gradient steps behind the weights of the newest evaluation.", "mode", "weights"
        ),
    },
    "world_model": {
        "dreamer_world_model_loss": _gauge("Total world-model loss (eq. 2)."),
        "dreamer_image_loss": _gauge(
            "Negative log-likelihood of the images, in nats an image, without its constant."
        ),
        "dreamer_image_mean_squared_error": _gauge(
            "Mean squared error a pixel of the reconstructed images, pixels in [-0.5, 0.5]."
        ),
        "dreamer_vector_loss": _gauge(
            "Negative log-likelihood of the vectors, in nats a vector, without its constant."
        ),
        "dreamer_vector_mean_squared_error": _gauge(
            "Mean squared error a number of the reconstructed vectors, in the environment's units."
        ),
        "dreamer_reward_loss": _gauge("Negative log-likelihood of the rewards, in nats."),
        "dreamer_discount_loss": _gauge("Negative log-likelihood of the discounts, in nats."),
        "dreamer_kl_loss": _gauge("KL term with balancing and free nats, before kl_scale."),
        "dreamer_kl_nats": _gauge("KL divergence from posterior to prior."),
        "dreamer_prior_entropy_nats": _gauge("Entropy of the predicted latent state."),
        "dreamer_posterior_entropy_nats": _gauge("Entropy of the latent state given the image."),
        "dreamer_world_model_gradient_norm": _gauge("Global gradient norm before clipping."),
    },
    "behavior": {
        "dreamer_actor_loss": _gauge("Actor loss in imagination (eq. 6)."),
        "dreamer_critic_loss": _gauge("Critic loss in imagination (eq. 5)."),
        "dreamer_actor_entropy_nats": _gauge("Entropy of the policy in imagination."),
        "dreamer_actor_target_mean": _gauge("Mean lambda-return in imagination (eq. 4)."),
        "dreamer_value_mean": _gauge("Mean value estimate in imagination."),
        "dreamer_imagined_reward_mean": _gauge("Mean predicted reward in imagination."),
        "dreamer_imagined_discount_mean": _gauge("Mean predicted discount in imagination."),
        "dreamer_reinforce_share": _gauge("rho, share of reinforce in the actor gradient."),
        "dreamer_entropy_scale": _gauge("eta, weight of the actor's entropy."),
        "dreamer_actor_gradient_norm": _gauge("Global gradient norm before clipping."),
        "dreamer_critic_gradient_norm": _gauge("Global gradient norm before clipping."),
    },
    "speed": {
        "dreamer_policy_steps_per_gradient_step": _gauge("Live ratio since training began."),
        "dreamer_wanted_policy_steps_per_gradient_step": _gauge(
            "Ratio that the run is held to (schedule.policy_steps_per_gradient_step)."
        ),
        "dreamer_policy_lag_gradient_steps": _gauge(
            "Age of the newest weights sent to the collector."
        ),
        "dreamer_policy_steps_per_second": _gauge("Speed of collecting over the last 30 s."),
        "dreamer_gradient_steps_per_second": _gauge("Speed of learning over the last 30 s."),
        "dreamer_gradient_step_seconds": Metric(
            kind="histogram", help="Duration of one gradient step.", buckets=STEP_SECONDS_BUCKETS
        ),
        "dreamer_sample_wait_seconds_total": _counter(
            "Time the learner stood idle, waiting for a batch or for play to fall due."
        ),
        "dreamer_insert_wait_seconds_total": _counter(
            "Time the collector stood idle, waiting for an insert or for the learner to catch up."
        ),
        "dreamer_env_seconds_total": _counter(
            "Time of the collector in its environment, rendering included."
        ),
        "dreamer_render_seconds_total": _counter(
            "Part of it that rendered images; 0 where the environment does not tell it apart."
        ),
        "dreamer_policy_seconds_total": _counter("Time of the collector in the policy's networks."),
    },
    "replay": {
        "dreamer_fenced_inserts_total": _counter(
            "Chunks refused because their collector had been replaced."
        ),
        "dreamer_repaired_records_total": _counter(
            "Damaged stretches of the replay's files that were cut off or set aside."
        ),
        "dreamer_replay_steps": _gauge("Rows that the replay holds."),
        "dreamer_replay_episodes": _gauge(
            "Episodes that the replay holds, the unfinished included."
        ),
        "dreamer_replay_short_episodes": _gauge(
            "Ended episodes that hold fewer rows than one sequence; sampled with what follows them."
        ),
        "dreamer_replay_bytes": _gauge("Bytes that the replay takes on disk."),
    },
    "gpu": {
        "dreamer_gpu_memory_bytes": _gauge("Memory of the learner's card."),
        "dreamer_gpu_memory_reserved_bytes": _gauge(
            "Part of it that the learner has taken, what it keeps for later included."
        ),
    },
    "checkpoint": {
        "dreamer_checkpoint_seconds": _gauge("Duration of the newest checkpoint."),
        "dreamer_checkpoint_age_seconds": _gauge(
            "Time since the newest checkpoint of this process, or since its start."
        ),
        "dreamer_checkpoint_timestamp_seconds": _gauge("Unix time of the newest checkpoint."),
    },
}
"""Every metric by what it is about; TensorBoard draws those of a group together."""

METRICS = {name: metric for group in GROUPS.values() for name, metric in group.items()}
"""Every metric of the project, by the name that it has in Prometheus and metrics.jsonl."""

_TAGS = {
    name: f"{group}/{name.removeprefix('dreamer_').removeprefix(f'{group}_')}"
    for group, metrics in GROUPS.items()
    for name in metrics
}


def tag_of(name: str, labels: Sequence[str] = ()) -> str:
    """Returns the tag of a series for TensorBoard and trackers: `group/name/label/...`.

    The name loses what the group says: `dreamer_kl_nats` becomes `world_model/kl_nats`, and
    `dreamer_evaluation_return` of greedy play `evaluation/return/greedy/latest`.
    """
    return "/".join((_TAGS[name], *labels))


def checked_values(report: Report) -> dict[str, float]:
    """Returns the report's values, with those of its newest training episode added.

    Raises:
        KeyError: a name is not in METRICS, or a label that its metric needs is missing.
    """
    values = {name: float(value) for name, value in report.values.items()}
    for newest in training_episodes(report)[-1:]:
        values.setdefault("dreamer_episode_return", newest.episode_return)
        values.setdefault("dreamer_episode_length_policy_steps", newest.length)
    for name in values:
        label_values(report, name)
    return values


def info_series(report: Report) -> dict[tuple[str, tuple[str, ...]], float]:
    """Returns by metric and labels what the report's episodes tell of the keys of env.log_info.

    Of the newest training episode, or the mean over an evaluation's.
    """
    if report.service != "evaluator":
        newest = report.episodes[-1].info if report.episodes else {}
        return {("dreamer_episode_info", (key,)): value for key, value in newest.items()}
    told = mean_info(report.episodes)
    labels = [str(report.labels[label]) for label in ("mode", "weights") if told]
    return {("dreamer_evaluation_info", (*labels, key)): value for key, value in told.items()}


def mean_info(episodes: Sequence[EpisodeSummary]) -> dict[str, float]:
    """Returns the mean of each key of env.log_info over the episodes that told it."""
    told: dict[str, list[float]] = {}
    for episode in episodes:
        for key, value in episode.info.items():
            told.setdefault(key, []).append(value)
    return {key: sum(values) / len(values) for key, values in told.items()}


def label_values(report: Report, name: str) -> tuple[str, ...]:
    """Returns the values of the labels that metric `name` carries, in the metric's order.

    Raises:
        KeyError: as `checked_values`.
    """
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {sorted(METRICS)}"
        raise KeyError(
            f"{report.service} reported {name!r}, which report.metrics.METRICS does not "
            f"list; {hint} Add new metrics to the table first"
        )
    missing = [label for label in METRICS[name].labels if label not in report.labels]
    if missing:
        raise KeyError(
            f"{report.service} reported {name!r} without the labels {missing} that tell its series "
            f"apart; put them into Report.labels, which has {sorted(report.labels)}"
        )
    return tuple(str(report.labels[label]) for label in METRICS[name].labels)


def observations(report: Report, name: str) -> tuple[float, ...]:
    """Returns the single observations behind histogram `name`: the value itself if none came."""
    return report.observations.get(name, (report.values[name],))


class Reported(Protocol):
    """What a `Report` and the line of the log that it became have in common."""

    @property
    def service(self) -> str:
        """Sender."""
        ...

    @property
    def episodes(self) -> tuple[EpisodeSummary, ...]:
        """Episodes that ended since its last report."""
        ...

    @property
    def labels(self) -> Mapping[str, Any]:
        """Facts that qualify the values."""
        ...


def training_episodes(reported: Reported) -> tuple[EpisodeSummary, ...]:
    """Returns the episodes that are trained on: those of any service but the evaluator."""
    return () if reported.service == "evaluator" else reported.episodes


def is_of_newest_weights(reported: Reported) -> bool:
    """Whether it tells of the run as it is now, and not of an evaluation of an older checkpoint."""
    return reported.labels.get("weights", LATEST) == LATEST
