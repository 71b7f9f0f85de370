"""How every process of a run writes its log lines: time, service, level, words."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


def log_format(service: str) -> logging.Formatter:
    """The one format of a log line."""
    return logging.Formatter(
        f"%(asctime)s {service} %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"
    )


def log_to_stderr(service: str) -> None:
    """Sends this process's log lines to stderr; in an actor Ray shows them to the supervisor."""
    handler = logging.StreamHandler()
    handler.setFormatter(log_format(service))
    _use(handler)


@contextmanager
def logging_to_file(service: str, path: Path) -> Generator[None]:
    """Sends this process's log lines to a file as well while the block runs."""
    handler = _LogFile(path)
    handler.setFormatter(log_format(service))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):  # the disk is full or read-only, and its user knows
            handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Does nothing: the disk is full, and stderr has the line."""


def _use(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
