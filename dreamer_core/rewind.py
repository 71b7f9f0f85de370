"""Takes a replay back to where it stood when a checkpoint was made, for an exact resume.

What lies behind that point is not lost: a lockstep run whose collector goes on from the same
checkpoint stores the same rows again.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from dreamer_core.segments import (
    DamagedFrame,
    SegmentVersionError,
    map_file,
    read_file_header,
    scan,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPosition:
    """How far a replay had come."""

    oldest_segment: int | None
    """Number of the first segment that was held; None for an empty replay."""
    newest_segment: int | None
    """Number of the segment that was being written."""
    end_bytes: int
    """Where its last record ended."""


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
        False, with nothing changed, if a segment that was held is gone or was cut before the
        position, or if another incarnation has written since: its rows would be lost.
    """
    position = target.position
    segments = {int(path.stem): path for path in sorted(directory.glob("[0-9]" * 8 + ".segment"))}
    newest = -1 if position.newest_segment is None else position.newest_segment
    later = {number: path for number, path in segments.items() if number > newest}
    obstacle = _obstacle(segments, later, target)
    if obstacle is not None:
        _log.warning("%s: not rewound to its checkpoint: %s", directory, obstacle)
        return False
    for number in sorted(later, reverse=True):
        later[number].unlink()
    if newest in segments:
        os.truncate(segments[newest], position.end_bytes)
    return True


def _obstacle(
    segments: dict[int, Path], later: dict[int, Path], target: RewindTarget
) -> str | None:
    """Why the replay cannot be rewound; None if it can."""
    position = target.position
    writers: set[int | None] = set()
    try:
        if position.newest_segment is not None and position.oldest_segment is not None:
            held = range(position.oldest_segment, position.newest_segment + 1)
            gone = [number for number in held if number not in segments]
            if gone:
                return f"segments {gone} are gone"
            newest = segments[position.newest_segment]
            ends = _ends(newest)
            if position.end_bytes not in ends:
                return f"no record of {newest} ends at byte {position.end_bytes}"
            writers |= {writer for end, writer in ends.items() if end > position.end_bytes}
        for path in later.values():
            writers |= set(_ends(path).values())
    except (DamagedFrame, SegmentVersionError) as damage:
        return str(damage)
    others = sorted(writer for writer in writers if writer not in (None, target.incarnation))
    if others:
        return f"incarnations {others} have written since, not only {target.incarnation}"
    return None


def _ends(path: Path) -> dict[int, int | None]:
    """Where the header and each whole record end, and whose record it is."""
    data = map_file(path)
    header = read_file_header(data)
    found = scan(data, header, is_payload_checked=False)
    size = header.layout.row_bytes
    return {header.end: None} | {r.payload_at + r.rows * size: r.incarnation for r in found.records}
