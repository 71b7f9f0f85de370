"""An HTTP endpoint that Prometheus scrapes, and what any process says there of itself."""

from __future__ import annotations

import errno
import logging
import math
import shutil
from collections.abc import Collection, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge

from dreamer_core.errors import BadInput
from services.addresses import host_port

logger = logging.getLogger(__name__)

DEFAULT_PORT = 9464
"""The first to be tried where none is named."""
_PORTS_TRIED = 100


class PortInUse(BadInput):
    """Another process listens where the metrics were to be served."""


class Endpoint:
    """Serves what a registry holds, until it is closed.

    Args:
        registry: of the metrics.
        port: TCP port; None takes 9464 or the first after it that is free, 0 any that is free; see
            the attribute `port`.
        address: interface to listen on; loopback unless others are to scrape it.
        avoided: HOST:PORT at which Prometheus looks for others, not to be taken where no port is
            named: it would take this process for one that is dead.

    Raises:
        PortInUse: something else listens on the port.
        BadInput: the address cannot be listened on for another reason.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        port: int | None,
        address: str,
        avoided: Collection[str] = (),
    ) -> None:
        self._server, self._thread = _serve(registry, address, port, avoided)
        self.address = address
        self.port: int = self._server.server_port
        self._is_open = True

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{host_port(self.address, self.port)}/metrics"

    def close(self) -> None:
        """Stops serving and frees the port; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def own_registry(
    info: Mapping[str, str], *, info_name: str = "dreamer_run_info", directory: Path | None
) -> CollectorRegistry:
    """Returns a registry with what a process knows of itself, the usual process_* among it.

    Args:
        info: labels of what is run here; empty for none.
        info_name: of the metric that has them, which is always 1.
        directory: whose disk is watched; None for none.
    """
    prometheus_client.disable_created_metrics()  # else each counter has a twin `_created`
    registry = CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    if info:
        text = "What is run here; always 1."
        Gauge(info_name, text, info, registry=registry).labels(**info).set(1)
    if directory is not None:
        for name, text, index in (
            ("dreamer_disk_bytes", "Size of the disk with the run directory.", 0),
            ("dreamer_disk_free_bytes", "Room on the disk with the run directory.", 2),
        ):
            gauge = Gauge(name, text, registry=registry)
            gauge.set_function(partial(_disk_usage, directory, index))
    return registry


def _serve(
    registry: CollectorRegistry, address: str, port: int | None, avoided: Collection[str]
) -> tuple[Any, Any]:
    """Listens; on the first free port from the default on where none is named."""
    later = (n for n in range(DEFAULT_PORT, 65_536) if host_port(address, n) not in avoided)
    numbers = list(islice(later, _PORTS_TRIED)) if port is None else [port]
    for number in numbers:
        try:
            return prometheus_client.start_http_server(number, addr=address, registry=registry)
        except OSError as error:
            is_last = number == numbers[-1]
            if error.errno != errno.EADDRINUSE or is_last:
                raise _explained(error, address, number) from error
            logger.info("Port %d is in use; metrics are served on a later one", number)
    raise AssertionError("unreachable: the last port raises")


def _disk_usage(directory: Path, index: int) -> float:
    """Total (0) or free (2) bytes of a disk; NaN where it does not answer."""
    try:
        return float(shutil.disk_usage(directory)[index])
    except OSError:
        return math.nan


def _explained(error: OSError, address: str, port: int) -> BadInput:
    """Returns the error with what was wanted and what to do."""
    place = host_port(address, port)
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"metrics were to be served on {place}, but another program listens there; "
            "name a free port with --metrics.port, or 0 to have one picked",
        )
    return BadInput(
        f"metrics cannot be served on {place} ({error.strerror}); name another port with "
        "--metrics.port, or an address of this machine",
    )
