"""How every process of a run writes its log lines: time, service, level, words.

A line is one event, and its time says its zone. With DREAMER_LOG_FORMAT=json, which a command sets
for itself and the processes that it starts, it is an object with these keys.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from dreamer_core.errors import DreamerError, naming

LogFormat = Literal["text", "json"]
Ended = Literal["stopped", "failed", "killed"]
"""How a process of a run ended."""
STARTED, STOPPED = "Started at gradient step", "Stopped at gradient step"
"""How a run's log tells of a process of it."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What colours a terminal and moves its cursor."""
_TAIL_BYTES = 1 << 20
_FORMAT_VARIABLE = "DREAMER_LOG_FORMAT"
_STOPPED = re.compile(r'(?: (INFO|ERROR) |"level": "(INFO|ERROR)", "message": ")Stopped\b')
_RAY_PREFIX = re.compile(
    r"^(?:\x1b\[\d+m)?"
    r"\((?:(?:(\w+)[^()]* )?pid=\d+[^()]*|(raylet|autoscaler)\b[^()]*)\)"
    r"(?:\x1b\[0m)? "
)


def use_log_format(wanted: LogFormat) -> None:
    """Chooses how this process, and those that it starts, write their lines."""
    os.environ[_FORMAT_VARIABLE] = wanted


def is_json() -> bool:
    """Whether this process writes its lines as JSON."""
    return os.environ.get(_FORMAT_VARIABLE) == "json"


def line_of(service: str, level: str, words: str, created_s: float, **facts: Any) -> str:
    """One line of a log.

    Args:
        service: who says it.
        level: such as INFO.
        words: what is said.
        created_s: Unix time.
        facts: further keys, told in JSON alone; the words say them to people.
    """
    time = datetime.fromtimestamp(created_s, UTC).astimezone().isoformat(timespec="seconds")
    if not is_json():
        return f"{time} {service} {level} {words}"
    line = {"time": time, "service": service, "level": level, "message": words, **facts}
    return json.dumps(line, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """Writes a record as one line, and its trace, in text, below it."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """As `line_of` writes it."""
        words = super().format(record)
        return line_of(self._service, record.levelname, words, record.created)


def log_to_stderr(service: str) -> None:
    """Sends this process's log lines to stderr; in an actor Ray shows them to the supervisor.

    Ray itself says nothing there: what fails in an actor is raised where it was called, and told.
    """
    log_to(sys.stderr, service)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def log_to(stream: TextIO, service: str) -> logging.Handler:
    """Sends this process's log lines to a stream and nowhere else; returns what does it.

    What is said by `warnings.warn` is such a line too.
    """
    warnings.showwarning = _log_warning
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    return handler


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> None:
    """Stands for `warnings.showwarning`, which writes two lines to stderr."""
    words = " ".join(ESCAPES.sub("", str(message)).split())  # Gymnasium colours its own
    name = category.__name__
    logging.getLogger("py.warnings").warning("%s: %s (%s:%d)", name, words, filename, lineno)


class WithoutPrefixes:
    """A text stream on which lines of other processes come without what Ray puts before them.

    A line that is none of ours, such as a trace, becomes one where lines are JSON.

    Args:
        stream: such as sys.stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text; Ray writes whole lines."""
        lines = (self._line(line) for line in text.splitlines(keepends=True))
        self._stream.write("".join(lines))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _line(self, line: str) -> str:
        found = _RAY_PREFIX.match(line)
        if found is None:
            return line
        words = line[found.end() :]
        if not is_json() or words.startswith("{"):
            return words
        end = "\n" if words.endswith("\n") else ""
        now_s = datetime.now(UTC).timestamp()
        return (
            line_of((found[1] or found[2] or "ray").lower(), "INFO", words.removesuffix(end), now_s)
            + end
        )


@contextmanager
def logging_to_file(service: str, path: Path) -> Generator[None]:
    """Sends this process's log lines to a file as well while the block runs.

    What ends the block by an error is logged there, as the command shows it: a bug with its trace.

    Raises:
        BadInput: the file cannot be opened. Failed: the disk is full.
    """
    with naming(f"log to {path}", "Make room, or mend its permissions"):
        handler = _LogFile(path)
    handler.setFormatter(LineFormatter(service))
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


def how_it_ended(path: Path) -> Ended | None:
    """How the last process that a log tells of ended; None if none started, or that is not known.

    One that runs has not ended, and looks as if it was killed.

    Raises:
        OSError: the log cannot be read.
    """
    if not path.exists():
        return None
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        _, started, since = log.read().decode(errors="replace").rpartition(STARTED)
    if not started:
        return None
    found = list(_STOPPED.finditer(since))
    if not found:
        return "killed"
    return "failed" if "ERROR" in found[-1].groups() else "stopped"


def _error(words: str, **attributes: Any) -> logging.LogRecord:
    level = {"levelno": logging.ERROR, "levelname": logging.getLevelName(logging.ERROR)}
    return logging.makeLogRecord({"msg": words, **level, **attributes})


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Does nothing: the disk is full, and stderr has the line."""
