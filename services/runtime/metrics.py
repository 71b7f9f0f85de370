"""Serves every reported number to Prometheus over HTTP, under the names of the table METRICS."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from dreamer_core.report.metrics import (
    METRICS,
    Metric,
    checked_values,
    info_series,
    label_values,
    observations,
    training_episodes,
)
from dreamer_core.report.report import Report
from services.prometheus.endpoint import Endpoint, own_registry

logger = logging.getLogger(__name__)

_MEAN_EPISODES = 100
_SERVICES = ("collector", "evaluator", "learner", "replay")
"""Values of the label `service`."""


class PrometheusExporter(Endpoint):
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
        self._registry = own_registry(info or {}, directory=directory)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], tuple[str, float]] = {}
        for name, metric in METRICS.items():
            self._begin(name, metric)
        self._returns: deque[float] = deque(maxlen=_MEAN_EPISODES)
        self._mean_return: Gauge | None = None
        super().__init__(self._registry, port, address, avoided)

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

    def _own_mean(self) -> Gauge:
        if self._mean_return is None:
            text = f"Mean return of the last {_MEAN_EPISODES} training episodes of this process."
            self._mean_return = Gauge("dreamer_episode_return_mean", text, registry=self._registry)
        return self._mean_return

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
