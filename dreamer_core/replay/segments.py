"""Segments of a replay: written by appending, opened after repair, cut where they are damaged.

The segment being written is extended with a hole to its full size and mapped once; rows are
written with `pwrite` and read through the map, so that memory is page cache and an acknowledged
record survives a kill of the process. It survives a power cut once its segment is closed or
flushed. The bytes are described in format.py.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import os
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamer_core.errors import StorageFailed, remedy
from dreamer_core.files import whole_file, write_whole
from dreamer_core.replay.format import (
    RECORD_MAGIC,
    ByteSource,
    DamagedFrame,
    Record,
    RowLayout,
    Totals,
    encode_file_header,
    read_file_header,
    read_frame,
)
from dreamer_core.replay.survey import Fault, Survey, map_file, scan, survey

_log = logging.getLogger(__name__)

_RECORD_OVERHEAD_BYTES = 256  # a record's prefix and header, generously


class Segment:
    """One segment file; writable until it is closed.

    Not safe for several threads or processes: the replay that owns it holds a lock.
    """

    def __init__(self, path: Path, data: ByteSource, end: int) -> None:
        self.path = path
        self.end = end
        """Bytes in use."""
        self.rows = 0
        self.num_records = 0
        self._data = data
        self._fd: int | None = None

    @classmethod
    def create(cls, path: Path, layout: RowLayout, totals: Totals, size_bytes: int) -> Segment:
        """Makes a writable segment with room for `size_bytes` of records; it appears whole."""
        header = encode_file_header(layout, totals)
        write_whole(path, header)
        segment = cls(path, memoryview(b""), len(header))
        segment.open_for_writing(size_bytes)
        return segment

    def count(self, record: Record) -> None:
        """Notes a record that the file holds."""
        self.rows += record.rows
        self.num_records += 1

    def holds(self, record: Record) -> bool:
        """Whether the record was found in this file when it was opened."""
        return record.data is self._data

    def remove(self, record: Record) -> None:
        """Forgets a record that is not intact, and cuts it out of the file.

        The other records stay readable where they are: the map of the file that was replaced
        lives on. The damaged file is kept as `*.damaged`. If the disk refuses, the record is
        forgotten all the same.
        """
        assert not self.is_writable and self.holds(record)
        self.rows -= record.rows
        self.num_records -= 1
        try:
            data = map_file(self.path)
            found = scan(data, read_file_header(data), is_payload_checked=False)
            reason = "the payload does not match its checksum"
            faults = [
                Fault(other.start, other.end, reason, is_tail=False)
                for other in found.records
                if other.place == record.place
            ]
            if not faults:
                raise DamagedFrame("its header is damaged too")
            # The first copy holds what the later ones would; rot can touch many records.
            is_first = not any(self.path.parent.glob(f"{self.path.name}*.damaged"))
            _cut(self.path, data, faults, is_kept=is_first)
        except (OSError, DamagedFrame) as error:
            _log.warning("%s: the damaged record stays in the file: %s", self.path, error)
        else:
            self.end -= record.end - record.start

    def open_for_writing(self, size_bytes: int) -> None:
        """Extends the file with a hole of `size_bytes` behind its records, and maps it anew."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, self.end)  # drops what a failed write may have left
            os.ftruncate(fd, self.end + size_bytes)
            mapped = mmap.mmap(fd, self.end + size_bytes, prot=mmap.PROT_READ)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._data = fd, memoryview(mapped)

    @property
    def is_writable(self) -> bool:
        """Whether records may be appended."""
        return self._fd is not None

    def has_room(self, frame_bytes: int) -> bool:
        """Whether a record of this size fits into the file."""
        return self.end + frame_bytes <= len(self._data)

    def append(self, frame: bytes) -> Record:
        """Writes a record and returns it; on an error the segment is as before."""
        assert self._fd is not None and self.has_room(len(frame))
        written = 0
        try:
            while written < len(frame):
                written += os.pwrite(self._fd, memoryview(frame)[written:], self.end + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.end)
                os.ftruncate(self._fd, len(self._data))
            raise
        parsed = read_frame(memoryview(frame), 0, RECORD_MAGIC)
        record = Record(
            **parsed.header,
            data=self._data,
            start=self.end,
            payload_at=self.end + parsed.payload_at,
            end=self.end + parsed.end,
            is_checked=True,
        )
        self.end += len(frame)
        self.count(record)
        return record

    def flush(self) -> None:
        """Brings what was written to the disk itself."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Cuts the unused part off, flushes, and ends writing. Its records stay readable."""
        if self._fd is not None:
            os.ftruncate(self._fd, self.end)
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None


def segment_bytes(layout: RowLayout, rows: int) -> int:
    """Returns room for `rows` rows, even if each is a record of its own: holes cost nothing."""
    return rows * (layout.row_bytes + _RECORD_OVERHEAD_BYTES)


@contextlib.contextmanager
def explained(action: str, path: Path) -> Generator[None]:
    """Raises StorageFailed for an OSError, with what was tried, where, and what to do."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            error.errno,
            f"{action} failed: {error.strerror}; {remedy(error)}: what was stored before was "
            "left as it was",
            str(path),
        ) from error


@dataclass(frozen=True, slots=True)
class OpenedSegments:
    """A directory of segments, repaired."""

    segments: list[Segment]
    """Oldest first; none is writable yet."""
    records: list[Record]
    """Of all segments, in order."""
    totals: Totals
    """With all records counted, and all repairs."""
    is_repaired: bool
    """Whether anything was damaged; the files do not say so yet."""


def open_segments(directory: Path, layout: RowLayout) -> OpenedSegments:
    """Opens all segments of a directory and repairs what `survey` finds damaged.

    The torn tail of the newest segment is cut. A segment damaged elsewhere is kept as
    `*.damaged` and replaced by one with its whole records; a file of a segment's name that holds
    nothing to be used is renamed to `*.damaged`.

    Raises:
        BadInput: a segment holds rows of another layout, is of another format version, or was
            renamed; nothing was changed.
    """
    num_repairs = 0
    found = survey(directory, layout, map_file)
    for temporary in directory.glob("*.tmp"):
        temporary.unlink()
    while repaired := _repair(found):
        num_repairs += repaired
        found = survey(directory, layout, map_file)
    segments: list[Segment] = []
    for file in found.files:
        segments.append(Segment(file.path, file.data, file.end))
        for record in file.records:
            segments[-1].count(record)
    totals = found.totals.after_repairs(num_repairs)
    return OpenedSegments(segments, found.records, totals, is_repaired=num_repairs > 0)


def _repair(found: Survey) -> int:
    """Removes what is damaged; returns how many stretches and files these were."""
    for path, reason in found.refused.items():
        kept = _name_aside(path)
        _log.warning("%s %s: renamed to %s", path, reason, kept.name)
        path.rename(kept)
    for file in found.files:
        is_torn = file is found.files[-1] and [fault.is_tail for fault in file.faults] == [True]
        if is_torn:
            _log_faults(file.path, file.faults)
            os.truncate(file.path, file.faults[0].start)
        elif file.faults:
            _cut(file.path, file.data, file.faults)
    return len(found.refused) + sum(len(file.faults) for file in found.files)


def _cut(path: Path, data: ByteSource, faults: Sequence[Fault], *, is_kept: bool = True) -> None:
    """Replaces a segment by one without the damaged stretches; keeps it as `*.damaged` if told."""
    _log_faults(path, faults)
    kept = _name_aside(path)
    try:
        if is_kept:
            shutil.copyfile(path, kept)
        with whole_file(path) as file:
            at = 0
            for fault in faults:
                file.write(data[at : fault.start])
                at = fault.end
            file.write(data[at:])
    except OSError:
        if is_kept:
            kept.unlink(missing_ok=True)  # or each new try would fill the disk further
        raise
    if is_kept:
        _log.warning("%s: the damaged segment is kept as %s", path, kept)


def _log_faults(path: Path, faults: Sequence[Fault]) -> None:
    for fault in faults:
        _log.warning(
            "%s: bytes %d to %d hold no whole record (%s): removed",
            *(path, fault.start, fault.end, fault.reason),
        )


def _name_aside(path: Path) -> Path:
    """A name for a damaged file that no earlier one has."""
    numbers = itertools.count(2)
    kept = path.with_name(f"{path.name}.damaged")
    while kept.exists():
        kept = path.with_name(f"{path.name}.{next(numbers)}.damaged")
    return kept
