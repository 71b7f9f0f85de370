"""Takes a replay back to where it stood when a checkpoint was made, for an exact resume.

What lies behind that point is not lost: a lockstep run whose collector goes on from the same
checkpoint stores the same rows again.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from dreamer_core.replay.format import DamagedFrame, SegmentVersionError, read_file_header
from dreamer_core.replay.survey import Scan, map_file, scan

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPosition:
    """How far a replay had come."""

    segments: tuple[int, ...]
    """Numbers of the segments that were held, oldest first; the last was being written."""
    end_bytes: int
    """Where the last record of the last segment ended; 0 if none was held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindTarget:
    """Where a replay is to go back to."""

    position: ReplayPosition
    """Of the checkpoint."""
    incarnation: int
    """Of the collector that goes on from there and stores the rows after it again."""


def rewind(directory: Path, target: RewindTarget) -> bool:
    """Removes every row that came after the target, if all of them can be collected again.

    To be called while nobody else has the replay open. A kill at any point leaves a replay that can
    be rewound again.

    Returns:
        False, with nothing changed, if a segment that was held is gone or damaged, or if another
        incarnation has written since: its rows would be lost.
    """
    held, end_bytes = target.position.segments, target.position.end_bytes
    paths = {int(path.stem): path for path in directory.glob("[0-9]" * 8 + ".segment")}
    later = sorted(number for number in paths if number > max(held, default=-1))
    try:
        obstacle = _obstacle(paths, target)
    except (DamagedFrame, SegmentVersionError) as damage:
        obstacle = str(damage)
    if obstacle is not None:
        _log.warning("%s: not taken back to its checkpoint: %s", directory, obstacle)
        return False
    for number in reversed(later):
        paths[number].unlink()
    if held:
        os.truncate(paths[held[-1]], end_bytes)
    return True


def _obstacle(paths: dict[int, Path], target: RewindTarget) -> str | None:
    """Why the replay cannot be taken back; None if it can.

    Raises:
        DamagedFrame, SegmentVersionError: the header of a file cannot be read.
    """
    position = target.position
    return (
        _missing(paths, position) or _damaged(paths, position) or _written_by_others(paths, target)
    )


def _missing(paths: dict[int, Path], position: ReplayPosition) -> str | None:
    gone = [number for number in position.segments if number not in paths]
    if gone:
        return f"segments {gone} are gone"
    oldest = min(position.segments, default=0)
    headers = [read_file_header(map_file(paths[n])) for n in sorted(paths) if n >= oldest]
    begins = [header.totals.rows for header in headers]
    if begins != sorted(begins):
        return "the names of its files do not follow the order in which they were written"
    return None


def _damaged(paths: dict[int, Path], position: ReplayPosition) -> str | None:
    for number in position.segments[:-1]:
        if _scan(paths[number]).faults:
            return f"{paths[number]} is damaged"
    if not position.segments:
        return None
    newest, end_bytes = paths[position.segments[-1]], position.end_bytes
    found = _scan(newest, is_payload_checked=True)
    if any(fault.start < end_bytes for fault in found.faults):
        return f"{newest} is damaged before byte {end_bytes}"
    if end_bytes not in {found.end, *(at for r in found.records for at in (r.start, r.end))}:
        return f"no record of {newest} ends at byte {end_bytes}"
    return None


def _written_by_others(paths: dict[int, Path], target: RewindTarget) -> str | None:
    """Whether another incarnation has written behind the target."""
    end_bytes, newest = target.position.end_bytes, max(target.position.segments, default=-1)
    writers = {
        record.incarnation
        for number, path in paths.items()
        if number >= newest
        for record in _scan(path).records
        if number > newest or record.end > end_bytes
    }
    others = sorted(writers - {target.incarnation})
    if others:
        return f"incarnations {others} have written since, not only {target.incarnation}"
    return None


def _scan(path: Path, *, is_payload_checked: bool = False) -> Scan:
    data = map_file(path)
    return scan(data, read_file_header(data), is_payload_checked=is_payload_checked)
