"""Measures what needs the services: delivery of batches over the object store, and a whole run.

Delivery is measured in a loop of its own, without a run.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Group
from rich.table import Table

from dreamer_core.bench.env import bench_env
from dreamer_core.bench.learner import bench_learner
from dreamer_core.bench.measure import Measurement, machine, scratch_directory, summary
from dreamer_core.bench.policy import bench_policy
from dreamer_core.bench.replay import bench_replay, fill_replay
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput
from dreamer_core.fields import to_dict
from dreamer_core.report.report import Report
from dreamer_core.types import Batch
from services.runtime import run
from services.runtime.address import ray_cluster
from services.runtime.config import ServiceConfig
from services.workers.replay_server import ReplayServer

_PROC = Path("/proc")
_MIN_MARKS = 3


class Consumer:
    """Stands where the learner does and only looks at what it is handed."""

    def take(self, batch: Batch) -> int:
        """Touches every row of the batch."""
        return int(batch.image[..., 0, 0, :1].sum(dtype=int))


def bench_delivery(
    config: Config, services: ServiceConfig, *, seconds: float, rows: int
) -> dict[str, float]:
    """Samples in the replay server and hands to another process, as training does.

    Returns:
        Batches per second, and how many calls were in flight.
    """
    spec, in_flight = environment_spec(config.env), services.runtime.learner_calls_in_flight
    with (
        scratch_directory() as directory,
        ray_cluster(services, namespace="bench"),
    ):
        fill_replay(directory, config.replay, spec, rows)
        make_server = ray.remote(ReplayServer).options(num_cpus=0)
        server: Any = make_server.remote(config, spec, directory)
        consumer: Any = ray.remote(Consumer).options(num_cpus=0).remote()
        step, done, calls = 0, 0, list[Any]()
        started = 0.0
        while not done or time.perf_counter() - started < seconds:
            while len(calls) < in_flight:
                calls.append(consumer.take.remote(server.sample.remote(step)))
                step += 1
            ready, calls = ray.wait(calls, num_returns=1)
            if started:
                done += len(ray.get(ready))
            elif step > 2 * in_flight:  # warm
                started = time.perf_counter()
        elapsed = time.perf_counter() - started
        ray.get(server.close.remote())
    return {"batches_per_second": done / elapsed, "calls_in_flight": float(in_flight)}


@dataclass(frozen=True, slots=True)
class _Mark:
    at_s: float
    gradient_step: int


def bench_run(config: Config, services: ServiceConfig, *, seconds: float) -> Measurement:
    """Trains for so many seconds, prefill and first reports left out, in a directory of its own."""
    marks: list[_Mark] = []
    values: dict[str, float] = {}
    peaks: dict[str, int] = {}

    def observe(report: Report, _policy_step: int, gradient_step: int) -> None:
        if report.service != "learner":
            return
        values.update(report.values)
        if "dreamer_gradient_steps_total" in report.values:
            marks.append(_Mark(time.perf_counter(), gradient_step))
            now = resident_bytes()
            if sum(now.values()) > sum(peaks.values()):
                peaks.clear()
                peaks.update(now)

    def should_stop() -> bool:
        return len(marks) >= _MIN_MARKS and time.perf_counter() - marks[0].at_s > seconds

    quiet = replace(config, evaluation=replace(config.evaluation, interval_frames=None))
    with scratch_directory() as directory:
        run.train(quiet, services, directory / "run", observe=observe, should_stop=should_stop)
    if len(marks) < _MIN_MARKS:
        raise BadInput(
            f"Only {len(marks)} reports came in {seconds:g} s of training, too few to measure; "
            "raise --seconds or --steps, or lower --schedule.report-interval-gradient-steps"
        )
    return _measured(config, marks, values, peaks)


def _measured(
    config: Config, marks: list[_Mark], values: dict[str, float], peaks: dict[str, int]
) -> Measurement:
    elapsed = marks[-1].at_s - marks[0].at_s
    gradient_steps = marks[-1].gradient_step - marks[0].gradient_step
    per_step = [
        (b.at_s - a.at_s) / (b.gradient_step - a.gradient_step)
        for a, b in itertools.pairwise(marks)
        if b.gradient_step > a.gradient_step
    ]
    # A short window holds too few collect calls to count them; over the run the ratio is exact.
    ratio = config.schedule.policy_steps_per_gradient_step
    policy_steps = gradient_steps * ratio
    frames = environment_spec(config.env).frames_per_policy_step
    return Measurement(
        benchmark="run",
        unit="gradient step of a whole run, everything included",
        **summary(per_step),
        details={
            "gradient_steps_per_second": gradient_steps / elapsed,
            "policy_steps_per_second": policy_steps / elapsed,
            "frames_per_second": policy_steps * frames / elapsed,
            "policy_steps_per_gradient_step": ratio,
            "learner_busy_share": min(
                1.0,
                values["dreamer_gradient_step_seconds"] / statistics.median(per_step),
            ),
            "seconds_measured": elapsed,
            "peak_resident_bytes": {**peaks, "sum": sum(peaks.values())},
        },
        settings=to_dict(config),
    )


def family() -> list[int]:
    """This process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = list[int](), [os.getpid()]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def resident_bytes() -> dict[str, int]:
    """Memory by process name of this process and all below it, files' page cache left out.

    The object store, which several of them share, counts once, as `object store`.
    """
    found: dict[str, int] = {}
    shared = 0
    for pid in family():
        try:
            status = (_PROC / str(pid) / "status").read_text()
        except OSError:
            continue
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        name = lines.get("Name", "?").strip()
        found[name] = found.get(name, 0) + _kilobytes(lines, "RssAnon")
        shared = max(shared, _kilobytes(lines, "RssShmem"))
    return {**found, "object store": shared}


def _kilobytes(lines: dict[str, str], key: str) -> int:
    """A value of /proc/PID/status in bytes."""
    return int(lines.get(key, "0 kB").split()[0]) * 1024


def measure(
    part: str, config: Config, services: ServiceConfig, *, seconds: float, rows: tuple[int, ...]
) -> Measurement:
    """Measures a part of a preset's run on this machine, or the whole.

    Args:
        part: learner, policy, replay, env or run.
        config: of the run.
        services: of the run.
        seconds: time to measure, warm-up left out.
        rows: sizes of the replay, where that is the part.

    Raises:
        BadInput: the run took too few steps to measure.
    """
    if part == "replay":
        measured = bench_replay(config, seconds=seconds, rows=rows)
        delivered = bench_delivery(config, services, seconds=seconds, rows=rows[0])
        return replace(measured, details={**measured.details, "delivered": delivered})
    if part == "run":
        return bench_run(config, services, seconds=seconds)
    return {"learner": bench_learner, "policy": bench_policy, "env": bench_env}[part](
        config, seconds=seconds
    )


def render(measurement: Measurement) -> Group:
    """A measurement as tables for a terminal."""
    table = Table(box=None, show_header=False)
    scale, unit = (1e3, "ms") if measurement.median_s < 1 else (1.0, "s")
    spread = f"{measurement.p10_s * scale:.3g} to {measurement.p90_s * scale:.3g}"
    table.add_row(
        measurement.unit,
        f"median {measurement.median_s * scale:.3g} {unit} (10% to 90%: {spread} {unit}; "
        f"{measurement.samples} samples)",
    )
    if measurement.floor_s is not None:
        table.add_row(
            "floor",
            f"{measurement.floor_s * scale:.3g} {unit}, {measurement.floor}; "
            f"the median is {measurement.ratio_to_floor:.2f} times it",
        )
    for name, value in _flat(measurement.details):
        table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else f"{value}")
    hardware = machine()["hardware"]
    table.add_row("machine", ", ".join(f"{value}" for value in hardware.values()))
    return Group(f"bench {measurement.benchmark}", table)


def _flat(details: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(words, value) of nested details."""
    rows: list[tuple[str, Any]] = []
    for name, value in details.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        rows += _flat(value, f"{words}, ") if isinstance(value, dict) else [(words, value)]
    return rows
