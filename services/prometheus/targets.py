"""Files that tell Prometheus what to scrape (file_sd_configs)."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import urllib.parse
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import ray

from dreamer_core.errors import naming
from dreamer_core.files import write_json
from services.addresses import host_port
from services.prometheus.endpoint import Endpoint

logger = logging.getLogger(__name__)

_TARGET = re.compile(r'"([^"\s]+:\d+)"')
_LONGEST_NAME = 200  # of a file, without its suffix; most file systems take 255 bytes


def told_to_prometheus(
    targets_dir: Path | None,
    root: Path,
    endpoint: Endpoint,
    labels: Mapping[str, str],
) -> AbstractContextManager[None]:
    """Advertises what is run in a directory, under its path; see `advertised`.

    Args:
        targets_dir: which Prometheus watches; None to tell nobody.
        root: directory of the run or of the sweep.
        endpoint: what it is scraped at.
        labels: of everything scraped there.
    """
    is_everywhere = endpoint.address in ("0.0.0.0", "::")  # noqa: S104 (asked for)
    host = ray.util.get_node_ip_address() if is_everywhere else endpoint.address
    target = host_port(host, endpoint.port)
    return advertised(targets_dir, target_name(root), target, labels)


def run_label(root: Path) -> str:
    """Returns the path of a directory, from the home directory on if it lies there."""
    root = root.absolute()
    with suppress(RuntimeError):  # a user without a home
        if root.is_relative_to(Path.home()):
            root = root.relative_to(Path.home())
    return str(root).encode(errors="replace").decode()


def target_name(root: Path) -> str:
    """Returns a path as the name of a file, its begin as a digest where it is long."""
    name = urllib.parse.quote(os.fsencode(root.absolute()), safe="")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}{name[16 - _LONGEST_NAME :]}"


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
    """Tells Prometheus where to scrape a run or a sweep while the block runs (file_sd_configs).

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
