"""Serves every reported number to Prometheus over HTTP, under the names of the table METRICS."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

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
)
from dreamer_core.types import Report

logger = logging.getLogger(__name__)

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

    Args:
        port: TCP port; 0 picks a free one, see the attribute `port`.
        address: interface to listen on; loopback unless others are to scrape it.

    Raises:
        PortInUse: something else listens on the port.
        BadInput: the address cannot be listened on for another reason.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        prometheus_client.disable_created_metrics()  # else each counter has a twin `_created`
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], tuple[str, float]] = {}
        for name, metric in METRICS.items():
            self._begin(name, metric)
        try:
            self._server, self._thread = prometheus_client.start_http_server(
                port, addr=address, registry=self._registry
            )
        except OSError as error:
            raise _explained(error, address, port) from error
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


@contextmanager
def advertised(
    directory: Path | None, name: str, target: str, labels: Mapping[str, str]
) -> Generator[None]:
    """Tells Prometheus where to scrape a run while the block runs, by a file for file_sd_configs.

    A run that is killed leaves its file, so that its target shows as down until it is resumed.

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
    finally:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("Prometheus is still told of this run: %s", error)


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
