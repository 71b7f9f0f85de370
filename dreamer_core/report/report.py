"""The table of every metric, and the sinks that need no Prometheus: JSONL and TensorBoard.

A service measures, puts the numbers into a `Report` and knows no sink. Whoever receives reports
hands each one to every sink (`RunLog` here, `PrometheusExporter` in services), so that a number
carries one name everywhere. What the kinds mean in `Report.values`:

    counter     the total so far; only one service reports a given counter
    gauge       the value now, or the mean since the last report
    histogram   the mean since the last report; the single observations, where a sink can use
                them, in `Report.labels["observations"][name]`

Episodes of the evaluator are evaluations, those of any other service are training episodes.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO, FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from tensorboard.compat.proto import (  # pyright: ignore[reportMissingTypeStubs]
    event_pb2,
    summary_pb2,
)
from tensorboard.summary.writer import (  # pyright: ignore[reportMissingTypeStubs]
    record_writer,
)

from dreamer_core.types import EpisodeSummary, Report

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIRECTORY = "tensorboard"
OBSERVATIONS_LABEL = "observations"
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

METRICS: dict[str, Metric] = {
    # Counts of the run
    "dreamer_policy_steps_total": _counter("Actions taken in the environment (after repeat)."),
    "dreamer_env_frames_total": _counter("Simulator frames: policy steps x action repeat."),
    "dreamer_gradient_steps_total": _counter("Training steps of world model, actor and critic."),
    "dreamer_episodes_total": _counter("Training episodes that ended."),
    "dreamer_restarts_total": _counter("Times a service was replaced after it died.", "service"),
    "dreamer_errors_total": _counter(
        "Times a service was lost or could not do its work.", "service"
    ),
    "dreamer_last_error_timestamp_seconds": _gauge("Unix time of the newest error.", "service"),
    "dreamer_fenced_inserts_total": _counter(
        "Chunks refused because their collector had been replaced."
    ),
    "dreamer_repaired_records_total": _counter(
        "Damaged stretches of the replay's files that were cut off or set aside."
    ),
    "dreamer_dropped_reports_total": _counter(
        "Reports that metrics.jsonl or TensorBoard lack, since the disk was full."
    ),
    # Episodes
    "dreamer_episode_return": _gauge("Sum of raw rewards of the newest training episode."),
    "dreamer_episode_length_policy_steps": _gauge("Length of the newest training episode."),
    "dreamer_evaluation_return": _gauge("Mean return of the newest evaluation.", "mode", "weights"),
    "dreamer_evaluation_length_policy_steps": _gauge(
        "Mean episode length of the newest evaluation.", "mode", "weights"
    ),
    "dreamer_evaluation_policy_steps": _gauge(
        "Policy steps of the run behind the weights of the newest evaluation.", "mode", "weights"
    ),
    "dreamer_evaluation_gradient_steps": _gauge(
        "Gradient steps behind the weights of the newest evaluation.", "mode", "weights"
    ),
    # World model
    "dreamer_world_model_loss": _gauge("Total world-model loss (eq. 2)."),
    "dreamer_image_loss": _gauge(
        "Negative log-likelihood of the images, in nats an image, without its constant."
    ),
    "dreamer_image_mean_squared_error": _gauge(
        "Mean squared error a pixel of the reconstructed images, pixels in [-0.5, 0.5]."
    ),
    "dreamer_reward_loss": _gauge("Negative log-likelihood of the rewards, in nats."),
    "dreamer_discount_loss": _gauge("Negative log-likelihood of the discounts, in nats."),
    "dreamer_kl_loss": _gauge("KL term with balancing and free nats, before kl_scale."),
    "dreamer_kl_nats": _gauge("KL divergence from posterior to prior."),
    "dreamer_prior_entropy_nats": _gauge("Entropy of the predicted latent state."),
    "dreamer_posterior_entropy_nats": _gauge("Entropy of the latent state given the image."),
    "dreamer_world_model_gradient_norm": _gauge("Global gradient norm before clipping."),
    # Actor and critic
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
    # Speed and balance
    "dreamer_policy_steps_per_gradient_step": _gauge("Live ratio since training began."),
    "dreamer_wanted_policy_steps_per_gradient_step": _gauge(
        "Ratio that the run is held to (schedule.policy_steps_per_gradient_step)."
    ),
    "dreamer_policy_lag_gradient_steps": _gauge("Age of the newest weights sent to the collector."),
    "dreamer_policy_steps_per_second": _gauge("Speed of collecting."),
    "dreamer_gradient_steps_per_second": _gauge("Speed of learning."),
    "dreamer_gradient_step_seconds": Metric(
        kind="histogram", help="Duration of one gradient step.", buckets=STEP_SECONDS_BUCKETS
    ),
    "dreamer_sample_wait_seconds_total": _counter(
        "Time the learner stood idle, waiting for a batch or for play to fall due."
    ),
    "dreamer_insert_wait_seconds_total": _counter(
        "Time the collector stood idle, waiting for an insert or for the learner to catch up."
    ),
    # Storage
    "dreamer_replay_steps": _gauge("Rows that the replay holds."),
    "dreamer_replay_episodes": _gauge("Episodes that the replay holds, the unfinished included."),
    "dreamer_replay_short_episodes": _gauge(
        "Ended episodes that hold fewer rows than one sequence; sampled with what follows them."
    ),
    "dreamer_replay_bytes": _gauge("Bytes that the replay takes on disk."),
    "dreamer_checkpoint_seconds": _gauge("Duration of the newest checkpoint."),
    "dreamer_checkpoint_age_seconds": _gauge("Time since the newest checkpoint."),
}
"""Every metric of the project: the same full name in Prometheus, TensorBoard and JSONL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of metrics.jsonl: a report, when it came and where the run stood."""

    wall_time_s: float
    """Unix time of the write."""
    service: str
    """Sender of the report."""
    policy_step: int
    """Policy steps of the run."""
    env_frame: int
    """Policy steps x action repeat."""
    gradient_step: int
    """Gradient steps of the run."""
    values: dict[str, float]
    """Metric name to value; NaN where the value was not finite."""
    episodes: tuple[EpisodeSummary, ...] = ()
    """Episodes that ended since the service's last report."""
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    """Facts that qualify the values."""

    @property
    def action_repeat(self) -> float:
        """Frames per policy step (1 on a line written before the first step)."""
        return self.env_frame / self.policy_step if self.policy_step else 1.0

    @property
    def evaluated_frame(self) -> float:
        """Env frames of the run when the weights were made that this line evaluates."""
        policy_steps = self.values.get("dreamer_evaluation_policy_steps", self.policy_step)
        return policy_steps * self.action_repeat


def checked_values(report: Report) -> dict[str, float]:
    """Returns the report's values, with those of its newest training episode added.

    Raises:
        KeyError: a name is not in METRICS, or a label that its metric needs is missing.
    """
    values = {name: float(value) for name, value in report.values.items()}
    if report.episodes and report.service != "evaluator":
        newest = report.episodes[-1]
        values.setdefault("dreamer_episode_return", newest.episode_return)
        values.setdefault("dreamer_episode_length_policy_steps", newest.length)
    for name in values:
        label_values(report, name)
    return values


def label_values(report: Report, name: str) -> tuple[str, ...]:
    """Returns the values of the labels that metric `name` carries, in the metric's order.

    Raises:
        KeyError: as `checked_values`.
    """
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {sorted(METRICS)}"
        raise KeyError(
            f"{report.service} reported {name!r}, which report.METRICS does not "
            f"list; {hint} Add new metrics to the table first"
        )
    missing = [label for label in METRICS[name].labels if label not in report.labels]
    if missing:
        raise KeyError(
            f"{report.service} reported {name!r} without the labels {missing} that tell its series "
            f"apart; put them into Report.labels, which has {sorted(report.labels)}"
        )
    return tuple(str(report.labels[label]) for label in METRICS[name].labels)


def observations(report: Report, name: str) -> Sequence[float]:
    """Returns the single observations behind histogram `name`: the value itself if none came."""
    by_name = cast("Mapping[str, Sequence[float]]", report.labels.get(OBSERVATIONS_LABEL, {}))
    return by_name.get(name, (report.values[name],))


def has_newest_weights(labels: Mapping[str, Any]) -> bool:
    """Whether a report with these labels is not the evaluation of an older checkpoint."""
    return labels.get("weights", LATEST) == LATEST


class RunLog:
    """Writes reports to `metrics.jsonl` and to TensorBoard event files in a run directory.

    Opening a directory that holds a log continues it; a last line torn by a kill is cut off. Each
    line is flushed, so a kill of the process loses none. TensorBoard's x axis is environment
    frames (policy steps x action repeat), the axis of the published Atari curves; its tags are
    the metric names, followed by `/label` for metrics with labels.

    What cannot be written, since the disk is full, is left out and counted: a run is worth more
    than its log.

    Args:
        run_dir: directory of the run; made if it does not exist.
        action_repeat: frames per policy step.
    """

    def __init__(self, run_dir: Path | str, *, action_repeat: int) -> None:
        self.path = Path(run_dir) / METRICS_FILE
        self._action_repeat = action_repeat
        self.dropped_reports = 0
        """Reports that could not be written, in full or in part."""
        self._is_failing = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(self.path)
        self._file = self.path.open("ab", buffering=0)
        self._events = _EventFile(self.path.parent / TENSORBOARD_DIRECTORY)

    def write(self, report: Report, *, policy_step: int, gradient_step: int) -> None:
        """Appends one report.

        Args:
            report: what a service measured.
            policy_step: policy steps of the run by now.
            gradient_step: gradient steps of the run by now.

        Raises:
            KeyError: a metric name is unknown, or lacks a label; nothing is written.
        """
        line = LogLine(
            wall_time_s=time.time(),
            service=report.service,
            policy_step=policy_step,
            env_frame=policy_step * self._action_repeat,
            gradient_step=gradient_step,
            values=checked_values(report),
            episodes=report.episodes,
            labels={k: v for k, v in report.labels.items() if k != OBSERVATIONS_LABEL},
        )
        text = json.dumps(_without_nan(asdict(line)), allow_nan=False) + "\n"
        try:
            _append(self._file, text.encode())
            self._write_events(report, line)
        except OSError as error:
            if not self._is_failing:
                logger.error("%s: reports are left out until this ends: %s", self.path, error)  # noqa: TRY400
            self.dropped_reports += 1
            self._is_failing = True
        else:
            self._is_failing = False

    def _write_events(self, report: Report, line: LogLine) -> None:
        values = dict(line.values)
        if report.service != "evaluator":
            for episode in report.episodes:  # each at its own frame, not at the report's
                frame = episode.policy_step * self._action_repeat
                scalars = {
                    "dreamer_episode_return": episode.episode_return,
                    "dreamer_episode_length_policy_steps": float(episode.length),
                }
                self._events.add(frame, line.wall_time_s, scalars)
                values = {name: value for name, value in values.items() if name not in scalars}
        tagged = {"/".join((name, *label_values(report, name))): v for name, v in values.items()}
        self._events.add(line.env_frame, line.wall_time_s, tagged)

    def close(self) -> None:
        """Closes both files; a second call does nothing."""
        if not self._file.closed:
            self._file.close()
            self._events.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_jsonl(
    path: Path | str, *, tail_bytes: int | None = None, damaged: list[str] | None = None
) -> list[LogLine]:
    """Returns the lines of a metrics file, oldest first; see `iterate_jsonl`."""
    return list(iterate_jsonl(path, tail_bytes=tail_bytes, damaged=damaged))


def iterate_jsonl(
    path: Path | str, *, tail_bytes: int | None = None, damaged: list[str] | None = None
) -> Iterator[LogLine]:
    """Yields the lines of a metrics file, oldest first; none if the file does not exist.

    May be called while the run writes: a last line without its newline is left out.

    Args:
        path: of the file.
        tail_bytes: read only so much of its end; None reads all of it.
        damaged: collects what is wrong with each damaged line, which is then left out.

    Raises:
        ValueError: a complete line is not what `RunLog` writes, and `damaged` is None; named by
            its number.
    """
    path = Path(path)
    if not path.exists():
        return
    with path.open("rb") as file:
        if tail_bytes is not None and path.stat().st_size > tail_bytes:
            file.seek(-tail_bytes, os.SEEK_END)
            file.readline()  # this line may have lost its beginning
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                continue
            try:
                parsed = parse_line(line.decode(errors="replace"), f"{path}:{number}")
            except ValueError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
            else:
                yield parsed


def parse_line(text: str, where: str) -> LogLine:
    """Rebuilds a line from its JSON.

    Raises:
        ValueError: it cannot be, with the place.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["values"] = {name: _float_of(value) for name, value in raw["values"].items()}
        episodes: list[dict[str, Any]] = raw["episodes"]
        for episode in episodes:
            episode["episode_return"] = _float_of(episode["episode_return"])
        raw["episodes"] = tuple(EpisodeSummary(**episode) for episode in episodes)
        return LogLine(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{where} is not a metrics line ({error}); the file was changed by something else "
            "than the run, so delete that line or restore the file"
        ) from error


def _float_of(value: float | None) -> float:
    """Returns the number, NaN for JSON's null."""
    return math.nan if value is None else float(value)


def _without_nan(value: Any) -> Any:
    """Returns the same nested structure with None in place of floats that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _without_nan(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in cast("Iterable[Any]", value)]
    return value


def _append(file: FileIO, content: bytes) -> None:
    """Writes all of it or, raising OSError, nothing; the file is open for appending."""
    size = os.fstat(file.fileno()).st_size
    written = 0
    try:
        while written < len(content):
            written += file.write(content[written:])
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def _cut_torn_line(path: Path) -> None:
    """Cuts off what follows the last newline: a line that a kill tore."""
    if not path.exists():
        return
    size = path.stat().st_size
    with path.open("rb+") as file:
        end, block_bytes = size, 65_536
        while end > 0:
            start = max(0, end - block_bytes)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            logger.warning("%s: cut a torn last line of %d bytes", path, size - end)
            file.truncate(end)
            os.fsync(file.fileno())


# tensorboard carries no type information, and its messages are made at import.
_new_event: Callable[..., Any] = vars(event_pb2)["Event"]
_new_summary: Callable[..., Any] = vars(summary_pb2)["Summary"]
_new_record_writer: Callable[..., Any] = vars(record_writer)["RecordWriter"]


class _EventFile:
    """Scalars in TensorBoard's format; one file per process life, which TensorBoard joins.

    Each event is written at once and in whole: the thread of tensorboard's own writer ends with a
    traceback when the disk is full, and a kill loses what it holds.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        place = f"{int(time.time()):010d}.{platform.node()}.{os.getpid()}.{time.time_ns()}"
        self._file = (directory / f"events.out.tfevents.{place}").open("ab", buffering=0)
        self._append(_new_event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, env_frame: int, wall_time_s: float, scalars: Mapping[str, float]) -> None:
        """Appends the scalars at x = env_frame."""
        summary = _new_summary()
        for tag, value in scalars.items():
            summary.value.add(tag=tag, simple_value=value)
        self._append(_new_event(wall_time=wall_time_s, step=env_frame, summary=summary))

    def _append(self, event: Any) -> None:
        record = BytesIO()
        _new_record_writer(record).write(event.SerializeToString())
        _append(self._file, record.getvalue())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
