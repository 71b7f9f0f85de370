"""Serves to Prometheus where a sweep stands; its runs serve nothing of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from prometheus_client import Counter, Gauge

from services.prometheus.endpoint import Endpoint, own_registry
from services.sweep.plan import RunKey
from services.sweep.progress import PHASES, SweepProgress

SWEEP_METRICS: Mapping[str, str] = {
    "dreamer_sweep_games": "Games, or environments, of the sweep.",
    "dreamer_sweep_games_done": "Games of which every run is done.",
    "dreamer_sweep_done_ratio": "Part of all policy steps that is taken, 0 to 1.",
    "dreamer_sweep_env_frames": "Env frames of all runs so far.",
    "dreamer_sweep_env_frames_per_second": "Env frames a second of the running runs together.",
}
"""Gauges without a label; beside them dreamer_sweep_runs, dreamer_sweep_failures_total and
dreamer_sweep_info."""
_RUNS = "dreamer_sweep_runs"
_FAILURES = "dreamer_sweep_failures"


class SweepExporter(Endpoint):
    """An HTTP endpoint with where a sweep stands.

    Besides SWEEP_METRICS it serves dreamer_sweep_runs{state}, the runs that are done, running,
    waiting or failed for good; dreamer_sweep_failures_total, how often runs have failed since the
    command was started; dreamer_sweep_info; and of its process and disk what a run does.

    Args:
        port: see `Endpoint`.
        address: see `Endpoint`.
        info: labels of dreamer_sweep_info.
        directory: whose disk is watched.
        avoided: see `Endpoint`.

    Raises:
        PortInUse: something else listens on the port.
        BadInput: the address cannot be listened on for another reason.
    """

    def __init__(
        self,
        port: int | None,
        address: str,
        *,
        info: Mapping[str, str],
        directory: Path,
        avoided: Collection[str] = (),
    ) -> None:
        registry = own_registry(info, info_name="dreamer_sweep_info", directory=directory)
        text = "Runs that are done, running, waiting or failed for good."
        self._runs = Gauge(_RUNS, text, ("state",), registry=registry)
        self._failures = Counter(_FAILURES, "Failures of runs.", registry=registry)
        self._gauges = {
            name: Gauge(name, text, registry=registry) for name, text in SWEEP_METRICS.items()
        }
        self._failed: dict[RunKey, int] = {}
        super().__init__(registry, port, address, avoided)

    def observe(self, progress: SweepProgress) -> None:
        """Takes over where the sweep stands."""
        for phase in PHASES:
            self._runs.labels(phase).set(progress.count(phase))
        for run in progress.runs:
            self._failures.inc(run.failures - self._failed.get(run.key, 0))
            self._failed[run.key] = run.failures
        values = (
            progress.games,
            progress.games_done,
            progress.share,
            progress.env_frames,
            progress.env_frames_per_second or 0.0,
        )
        for gauge, value in zip(self._gauges.values(), values, strict=True):
            gauge.set(value)
