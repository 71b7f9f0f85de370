"""Mends metrics.jsonl after a kill: a torn last line, and what a resumed run will report again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from dreamer_core.files import whole_file

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 65_536


def cut_torn_line(path: Path) -> None:
    """Cuts off what follows the last newline: a line that a kill tore.

    Raises:
        OSError: the file cannot be read or shortened.
    """
    if not path.exists():
        return
    size = path.stat().st_size
    end = next(_lines_backwards(path), (0, b""))
    end_bytes = end[0] + len(end[1]) if end[1].endswith(b"\n") else end[0]
    if end_bytes < size:
        logger.warning("%s: cut a torn last line of %d bytes", path, size - end_bytes)
        with path.open("rb+") as file:
            file.truncate(end_bytes)
            os.fsync(file.fileno())


def take_back(path: Path, *, policy_step: int, gradient_step: int) -> int:
    """Leaves out the lines that a run reports again when it goes on from here; returns how many.

    These are all of later policy steps, and the learner's of later gradient steps: where the replay
    kept what was collected after the checkpoint, other lines count as they did.

    Args:
        path: of the file, of whole lines.
        policy_step: policy steps of the run as it goes on.
        gradient_step: gradient steps of it.

    Raises:
        OSError: the file cannot be read or written; it is as it was.
    """
    kept: list[bytes] = []
    start = taken_back = 0
    for offset, text in _lines_backwards(path):
        line = _parsed(text)
        later_policy = line.get("policy_step", 0) > policy_step
        later_gradient = line.get("gradient_step", 0) > gradient_step
        if later_policy or (later_gradient and line.get("service") == "learner"):
            taken_back += 1
        elif line and not later_gradient:
            start = offset + len(text)
            break
        else:
            kept.append(text)
    if taken_back:
        with path.open("rb") as before, whole_file(path) as file:
            while start > 0 and (block := before.read(min(start, _BLOCK_BYTES))):
                start -= file.write(block)
            file.writelines(reversed(kept))
    return taken_back


def _parsed(text: bytes) -> dict[str, Any]:
    """The line; empty for a damaged one."""
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", line) if isinstance(line, dict) else {}


def _lines_backwards(path: Path) -> Generator[tuple[int, bytes]]:
    """Yields (offset, line) from the last line to the first, newlines included."""
    with path.open("rb") as file:
        start = file.seek(0, os.SEEK_END)
        rest = b""
        while start > 0:
            size = min(start, _BLOCK_BYTES)
            start -= size
            file.seek(start)
            first, *lines = (file.read(size) + rest).splitlines(keepends=True)
            end = start + len(first) + sum(map(len, lines))
            for line in reversed(lines):
                end -= len(line)
                yield end, line
            rest = first
        if rest:
            yield 0, rest
