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
        obstacle = _obstacle(paths, later, target)
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


def _obstacle(paths: dict[int, Path], later: list[int], target: RewindTarget) -> str | None:
    """Why the replay cannot be taken back; None if it can.

    Raises:
        DamagedFrame, SegmentVersionError: the header of a file cannot be read.
    """
    held, end_bytes = target.position.segments, target.position.end_bytes
    gone = [number for number in held if number not in paths]
    if gone:
        return f"segments {gone} are gone"
    for number in held[:-1]:
        if _scan(paths[number]).faults:
            return f"{paths[number]} is damaged"
    writers: set[int] = set()
    if held:
        newest = held[-1]
        found = _scan(paths[newest], is_payload_checked=True)
        if any(fault.start < end_bytes for fault in found.faults):
            return f"{paths[newest]} is damaged before byte {end_bytes}"
        ends = {found.end, *(at for r in found.records for at in (r.start, r.end))}
        if end_bytes not in ends:
            return f"no record of {paths[newest]} ends at byte {end_bytes}"
        writers |= {r.incarnation for r in found.records if r.end > end_bytes}
    for number in later:
        writers |= {record.incarnation for record in _scan(paths[number]).records}
    others = sorted(writers - {target.incarnation})
    if others:
        return f"incarnations {others} have written since, not only {target.incarnation}"
    return None


def _scan(path: Path, *, is_payload_checked: bool = False) -> Scan:
    data = map_file(path)
    return scan(data, read_file_header(data), is_payload_checked=is_payload_checked)
