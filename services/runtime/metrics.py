"""Serves every reported number to Prometheus over HTTP, under the names of the table METRICS."""

from __future__ import annotations

import errno
import logging
import math
import re
import shutil
from collections import deque
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dreamer_core.errors import BadInput, naming
from dreamer_core.files import write_json
from dreamer_core.report.metrics import (
    METRICS,
    Metric,
    checked_values,
    info_series,
    label_values,
    observations,
    training_episodes,
)
from dreamer_core.types import Report

logger = logging.getLogger(__name__)

DEFAULT_PORT = 9464
"""The first to be tried where none is named."""
_PORTS_TRIED = 100
_TARGET = re.compile(r'"([^"\s]+:\d+)"')
_MEAN_EPISODES = 100
_SERVICES = ("collector", "evaluator", "learner", "replay")
"""Values of the label `service`."""


class PortInUse(BadInput):
    """Another process listens where the metrics were to be served."""


class PrometheusExporter:
    """An HTTP endpoint with the newest values of all services.

    Gauges and counters appear with their first value: a loss of 0 would be read as a loss, and the
    steps of a resumed run, coming after a 0, as taken at once. What each service may have counted
    (label `service`) and histograms begin at 0 with the process, so that the first event shows.

    Services report totals. The exporter adds what a total grew by, and nothing when it fell, so
    that a service that was restarted or set back to its checkpoint never moves a counter backwards:
    the counter then holds the work done, repeated work included.

    Besides what services report it serves, under the names below, what only this process knows:
    dreamer_run_info, dreamer_episode_return_mean, dreamer_disk_free_bytes, dreamer_disk_bytes and
    the usual process_* of prometheus_client.

    Args:
        port: TCP port; None takes 9464 or the first after it that is free, 0 any that is free; see
            the attribute `port`.
        address: interface to listen on; loopback unless others are to scrape it.
        info: labels of dreamer_run_info: what is run here.
        directory: whose disk is watched.
        avoided: HOST:PORT at which Prometheus looks for other runs, not to be taken where no port
            is named: it would take this run for one that is dead.

    Raises:
        PortInUse: something else listens on the port.
        BadInput: the address cannot be listened on for another reason.
    """

    def __init__(
        self,
        port: int | None,
        address: str = "127.0.0.1",
        *,
        info: Mapping[str, str] | None = None,
        directory: Path | None = None,
        avoided: Collection[str] = (),
    ) -> None:
        prometheus_client.disable_created_metrics()  # else each counter has a twin `_created`
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], tuple[str, float]] = {}
        for name, metric in METRICS.items():
            self._begin(name, metric)
        self._returns: deque[float] = deque(maxlen=_MEAN_EPISODES)
        self._mean_return: Gauge | None = None
        self._begin_own(dict(info or {}), directory)
        self._server, self._thread = self._serve(address, port, avoided)
        self.address = address
        self.port: int = self._server.server_port
        self._is_open = True

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{self.address}:{self.port}/metrics"

    def observe(self, report: Report) -> None:
        """Takes over the values of one report.

        Raises:
            KeyError: a metric name is unknown, or lacks a label; nothing is taken over.
            ValueError: a counter's total is negative or not finite, or comes from two services.
        """
        for name, value in checked_values(report).items():
            labels = label_values(report, name)
            match METRICS[name].kind:
                case "counter":
                    self._advance(report.service, name, labels, value)
                case "gauge":
                    gauge = self._gauge(name)
                    (gauge.labels(*labels) if labels else gauge).set(value)
                case "histogram":
                    for observation in observations(report, name):
                        self._histograms[name].observe(observation)

        for (name, labels), value in info_series(report).items():
            self._gauge(name).labels(*labels).set(value)
        self._returns.extend(episode.episode_return for episode in training_episodes(report))
        if self._returns:
            self._own_mean().set(sum(self._returns) / len(self._returns))

    def close(self) -> None:
        """Stops serving and frees the port; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> PrometheusExporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, name: str, metric: Metric) -> None:
        """Declares what is served before its first report."""
        if metric.kind == "counter" and metric.labels:
            counter = Counter(name, metric.help, metric.labels, registry=self._registry)
            for service in _SERVICES:
                counter.labels(service)
            self._counters[name] = counter
        elif metric.kind == "histogram":
            self._histograms[name] = Histogram(
                name, metric.help, buckets=metric.buckets, registry=self._registry
            )

    def _begin_own(self, info: dict[str, str], directory: Path | None) -> None:
        """Declares what this process knows of itself."""
        prometheus_client.ProcessCollector(registry=self._registry)
        if info:
            text = "What is run here; always 1."
            Gauge("dreamer_run_info", text, info, registry=self._registry).labels(**info).set(1)
        if directory is None:
            return
        for name, text, index in (
            ("dreamer_disk_bytes", "Size of the disk with the run directory.", 0),
            ("dreamer_disk_free_bytes", "Room on the disk with the run directory.", 2),
        ):
            gauge = Gauge(name, text, registry=self._registry)
            gauge.set_function(partial(_disk_usage, directory, index))

    def _own_mean(self) -> Gauge:
        if self._mean_return is None:
            text = f"Mean return of the last {_MEAN_EPISODES} training episodes of this process."
            self._mean_return = Gauge("dreamer_episode_return_mean", text, registry=self._registry)
        return self._mean_return

    def _serve(self, address: str, port: int | None, avoided: Collection[str]) -> tuple[Any, Any]:
        """Listens; on the first free port from the default on where none is named."""
        later = (n for n in range(DEFAULT_PORT, 65_536) if f"{address}:{n}" not in avoided)
        numbers = list(islice(later, _PORTS_TRIED)) if port is None else [port]
        for number in numbers:
            try:
                return prometheus_client.start_http_server(
                    number, addr=address, registry=self._registry
                )
            except OSError as error:
                is_last = number == numbers[-1]
                if error.errno != errno.EADDRINUSE or is_last:
                    raise _explained(error, address, number) from error
                logger.info("Port %d is in use; metrics are served on a later one", number)
        raise AssertionError("unreachable: the last port raises")

    def _gauge(self, name: str) -> Gauge:
        if name not in self._gauges:
            metric = METRICS[name]
            self._gauges[name] = Gauge(name, metric.help, metric.labels, registry=self._registry)
        return self._gauges[name]

    def _advance(self, service: str, name: str, labels: tuple[str, ...], total: float) -> None:
        if not math.isfinite(total) or total < 0:
            raise ValueError(f"{service} reported {name}={total}; a total is 0 or more and finite")
        owner, last = self._totals.get((name, labels), (service, 0.0))
        if owner != service:
            raise ValueError(
                f"{name} was reported by {owner} and now by {service}; the growth of two totals "
                "cannot be told apart, so let one service report it"
            )
        self._totals[name, labels] = (service, total)
        growth = max(0.0, total - last)
        if name in self._counters:
            counter = self._counters[name]
            (counter.labels(*labels) if labels else counter).inc(growth)
        else:
            counter = Counter(name, METRICS[name].help, registry=None)
            counter.inc(growth)
            self._registry.register(counter)  # only now, so that no scrape sees it at 0
            self._counters[name] = counter


def targets_of_others(directory: Path | None, name: str) -> frozenset[str]:
    """Returns each HOST:PORT that files other than `name` tell Prometheus of, dead runs included.

    A file that cannot be read is left out.
    """
    found: set[str] = set()
    for path in directory.glob("*.json") if directory is not None else ():
        if path.stem != name:
            with suppress(OSError):
                found.update(_TARGET.findall(path.read_text(errors="replace")))
    return frozenset(found)


@contextmanager
def advertised(
    directory: Path | None, name: str, target: str, labels: Mapping[str, str]
) -> Generator[None]:
    """Tells Prometheus where to scrape a run while the block runs, by a file for file_sd_configs.

    A run that is done or was stopped takes its file back, so nobody is alerted. One that fails (the
    block raises) leaves it with the label `ended="failed"`, one that is killed as it was. Both then
    show as down until the run is started again or the file is deleted.

    Args:
        directory: which Prometheus watches; None to tell nobody.
        name: of the file, without its suffix; the same at each start of the run.
        target: HOST:PORT.
        labels: of everything scraped there.

    Raises:
        BadInput: the file cannot be written. Failed: its disk is full.
    """
    if directory is None:
        yield
        return
    path = directory / f"{name}.json"
    with naming(f"tell Prometheus of the run in {directory}", "Name another --metrics.targets-dir"):
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, [{"targets": [target], "labels": dict(labels)}])
    try:
        yield
    except Exception:
        with _warning():
            write_json(path, [{"targets": [target], "labels": {**labels, "ended": "failed"}}])
        raise
    with _warning():
        path.unlink(missing_ok=True)


@contextmanager
def _warning() -> Generator[None]:
    """What Prometheus is told is not worth a run."""
    try:
        yield
    except OSError as error:
        logger.warning("Prometheus is told of this run as if it still ran: %s", error)


def _disk_usage(directory: Path, index: int) -> float:
    """Total (0) or free (2) bytes of a disk; NaN where it does not answer."""
    try:
        return float(shutil.disk_usage(directory)[index])
    except OSError:
        return math.nan


def _explained(error: OSError, address: str, port: int) -> BadInput:
    """Returns the error with what was wanted and what to do."""
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"metrics were to be served on {address}:{port}, but another program listens there; "
            "name a free port with --metrics.port, or 0 to have one picked",
        )
    return BadInput(
        f"metrics cannot be served on {address}:{port} ({error.strerror}); name another port with "
        "--metrics.port, or an address of this machine",
    )
