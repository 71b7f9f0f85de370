"""How every process of a run writes its log lines: time, service, level, words."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dreamer_core.errors import DreamerError, naming


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
    """Sends this process's log lines to a file as well while the block runs.

    What ends the block by an error is logged there, as the command shows it: a bug with its trace.

    Raises:
        BadInput: the file cannot be opened. Failed: the disk is full.
    """
    with naming(f"log to {path}", "Make room, or mend its permissions"):
        handler = _LogFile(path)
    handler.setFormatter(log_format(service))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except DreamerError as error:
        handler.handle(_error(f"Stopped: {error}"))
        raise
    except Exception:
        handler.handle(_error("Stopped by a bug in dreamer", exc_info=sys.exc_info()))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):  # the disk is full or read-only, and its user knows
            handler.close()


def _error(words: str, **attributes: Any) -> logging.LogRecord:
    level = {"levelno": logging.ERROR, "levelname": logging.getLevelName(logging.ERROR)}
    return logging.makeLogRecord({"msg": words, **level, **attributes})


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Does nothing: the disk is full, and stderr has the line."""


def _use(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
