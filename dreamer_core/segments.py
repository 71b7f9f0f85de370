"""Segment files: append-only records of episode rows, and what is done with damaged ones.

    file     = frame(DSEG, header: layout and the totals before this segment), then records
    record   = frame(DREC, header: incarnation, episode, first_step, rows, is_last, is_terminal;
                     payload: image, prev_action, reward, is_first, is_last, is_terminal)
    frame    = prefix, msgpack header, payload
    prefix   = magic 4s, version u16, header bytes u16, payload bytes u64,
               crc32 of all these and the header u32, crc32 of header and payload u32

The first checksum lets a scan trust a header without reading the payload. Integers and floats
are little-endian; each column is contiguous, `[rows, ...]`, with dtype and row shape as named in
the file header.

The segment being written is extended with a hole to its full size and mapped once; rows are
written with `pwrite` and read through the map, so that memory is page cache and an acknowledged
record survives a kill of the process. It survives a power cut once its segment is closed or
flushed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import os
import shutil
import struct
import zlib
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

from dreamer_core.types import EpisodeChunk

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
SEGMENT_MAGIC = b"DSEG"
RECORD_MAGIC = b"DREC"
_FIELDS = struct.Struct("<4sHHQ")
_CHECKSUMS = struct.Struct("<II")
_PREFIX_BYTES = _FIELDS.size + _CHECKSUMS.size
_RECORD_OVERHEAD_BYTES = 256  # a record's prefix and header, generously


class DamagedFrame(ValueError):
    """These bytes are not a whole frame; the message says why."""


class SegmentVersionError(ValueError):
    """The file is whole, but was written in another format version."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The shapes of one row."""

    image_shape: tuple[int, ...]
    """[H, W, channels]."""
    action_size: int
    """A."""

    @property
    def columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and row shape of each column, in the order of the payload."""
        flag = ("|b1", ())
        return {
            "image": ("|u1", self.image_shape),
            "prev_action": ("<f4", (self.action_size,)),
            "reward": ("<f4", ()),
            "is_first": flag,
            "is_last": flag,
            "is_terminal": flag,
        }

    @property
    def image_bytes(self) -> int:
        """Size of one image."""
        return math.prod(self.image_shape)

    @property
    def prev_action_bytes(self) -> int:
        """Size of one action."""
        return 4 * self.action_size

    @property
    def row_bytes(self) -> int:
        """Size of one row over all columns."""
        return self.image_bytes + self.prev_action_bytes + 4 + 3


@dataclass(frozen=True, slots=True)
class Totals:
    """What was ever stored, kept in each segment's header so that it outlives eviction."""

    policy_steps: int = 0
    """Rows that are not the first of an episode."""
    episodes: int = 0
    """Episodes begun."""
    repaired_records: int = 0
    """Torn tails cut off, damaged stretches dropped and foreign files set aside."""
    last_incarnation: int | None = None
    """Highest incarnation of the collector."""

    def after(self, record: Record) -> Totals:
        """Returns the totals once `record` is stored."""
        begun = int(record.first_step == 0)
        return replace(
            self,
            policy_steps=self.policy_steps + record.rows - begun,
            episodes=self.episodes + begun,
            last_incarnation=max(record.incarnation, self.last_incarnation or 0),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """One stored chunk: its place in the episode, and where its columns lie."""

    incarnation: int
    episode: int
    first_step: int
    rows: int
    is_last: bool
    """Its last row ends the episode."""
    is_terminal: bool
    """... by the task's own end."""
    data: memoryview
    """The segment's bytes."""
    payload_at: int
    """Offset of the first column."""


@dataclass(frozen=True, slots=True)
class _Frame:
    header: dict[str, Any]
    header_checksum: int
    payload_at: int
    end: int
    checksum: int

    def is_whole(self, data: memoryview) -> bool:
        """Whether the payload matches its checksum; reads it."""
        return zlib.crc32(data[self.payload_at : self.end], self.header_checksum) == self.checksum


def encode_frame(magic: bytes, header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Returns prefix, header and payload as they lie on disk."""
    packed = cast(bytes, msgpack.packb(dict(header)))  # pyright: ignore[reportUnknownMemberType]
    fields = _FIELDS.pack(magic, FORMAT_VERSION, len(packed), len(payload))
    checksums = _CHECKSUMS.pack(
        zlib.crc32(fields + packed), zlib.crc32(payload, zlib.crc32(packed))
    )
    return b"".join((fields, checksums, packed, payload))


def encode_chunk(chunk: EpisodeChunk, layout: Layout) -> bytes:
    """Returns a checked chunk as a record."""
    header = {
        "incarnation": chunk.incarnation,
        "episode": chunk.episode,
        "first_step": chunk.first_step,
        "rows": len(chunk),
        "is_last": bool(chunk.is_last[-1]),
        "is_terminal": bool(chunk.is_terminal[-1]),
    }
    columns = (
        np.ascontiguousarray(getattr(chunk, name), dtype=dtype).tobytes()
        for name, (dtype, _) in layout.columns.items()
    )
    return encode_frame(RECORD_MAGIC, header, b"".join(columns))


def _read_frame(data: memoryview, at: int, magic: bytes) -> _Frame:
    """Reads a prefix and header; the payload is only known to lie within the file."""
    header_at = at + _PREFIX_BYTES
    if header_at > len(data):
        raise DamagedFrame("the file ends within a prefix")
    found, version, header_bytes, payload_bytes = _FIELDS.unpack_from(data, at)
    if found != magic:
        raise DamagedFrame(f"wanted {magic!r}, found {found!r}")
    payload_at = header_at + header_bytes
    header_checksum, checksum = _CHECKSUMS.unpack_from(data, at + _FIELDS.size)
    packed = bytes(data[header_at:payload_at])
    if zlib.crc32(bytes(data[at : at + _FIELDS.size]) + packed) != header_checksum:
        raise DamagedFrame("the header does not match its checksum")
    if version != FORMAT_VERSION:
        raise SegmentVersionError(
            f"wanted segment format {FORMAT_VERSION}, found {version}; open it with the version "
            "of dreamer_core that wrote it, or use another directory"
        )
    if payload_at + payload_bytes > len(data):
        raise DamagedFrame("the file ends within a record")
    header = cast(dict[str, Any], msgpack.unpackb(packed))  # pyright: ignore[reportUnknownMemberType]
    return _Frame(header, zlib.crc32(packed), payload_at, payload_at + payload_bytes, checksum)


def map_file(path: Path) -> memoryview:
    """Maps a file for reading; an empty one gives an empty view."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a segment file begins with."""

    layout: Layout
    totals: Totals
    """Before this segment."""
    end: int
    """Where the records begin."""


def read_file_header(data: memoryview) -> FileHeader:
    """Reads the beginning of a segment file.

    Raises:
        DamagedFrame: this is no segment, or its header is damaged.
        SegmentVersionError: it was written in another format version.
    """
    frame = _read_frame(data, 0, SEGMENT_MAGIC)
    header = frame.header
    layout = Layout(tuple(header["image_shape"]), header["action_size"])
    return FileHeader(layout, Totals(**header["totals"]), frame.end)


@dataclass(frozen=True, slots=True)
class Fault:
    """A stretch of a segment that holds no whole record."""

    start: int
    end: int
    reason: str
    is_tail: bool
    """No whole record follows it."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment file holds after its header."""

    records: list[Record]
    end: int
    """Where the last whole record ends."""
    faults: list[Fault]


def _find_whole_record(data: memoryview, start: int) -> int | None:
    """Returns where the next whole record begins, or None. Only runs after damage."""
    source = bytes(data[start:])
    at = source.find(RECORD_MAGIC)
    while at >= 0:
        with contextlib.suppress(DamagedFrame):
            if _read_frame(data, start + at, RECORD_MAGIC).is_whole(data):
                return start + at
        at = source.find(RECORD_MAGIC, at + 1)
    return None


def scan(data: memoryview, header: FileHeader, *, is_payload_checked: bool) -> Scan:
    """Returns the records and the damage found between and after them.

    A rest of zeros is the unused part of a segment that was being written, and no damage.
    """
    records: list[Record] = []
    faults: list[Fault] = []
    at = end = header.end
    while at < len(data) and (data[at] or np.frombuffer(data[at:], np.uint8).any()):
        try:
            frame = _read_frame(data, at, RECORD_MAGIC)
            if frame.end - frame.payload_at != frame.header["rows"] * header.layout.row_bytes:
                raise DamagedFrame("the payload has another size than its rows need")
            if is_payload_checked and not frame.is_whole(data):
                raise DamagedFrame("the payload does not match its checksum")
        except DamagedFrame as damage:
            whole = _find_whole_record(data, at + 1)
            stop = len(data) if whole is None else whole
            faults.append(Fault(at, stop, str(damage), whole is None))
            at = stop
            continue
        records.append(Record(**frame.header, data=data, payload_at=frame.payload_at))
        at = end = frame.end
    return Scan(records, end, faults)


class Segment:
    """One segment file; writable until it is closed.

    Not safe for several threads or processes: the replay that owns it holds a lock.
    """

    def __init__(self, path: Path, data: memoryview, end: int) -> None:
        self.path = path
        self.end = end
        """Bytes in use."""
        self.rows = 0
        self.num_records = 0
        self._data = data
        self._fd: int | None = None

    @classmethod
    def create(cls, path: Path, layout: Layout, totals: Totals, size_bytes: int) -> Segment:
        """Makes a writable segment with room for `size_bytes` of records; it appears whole."""
        header = encode_frame(
            SEGMENT_MAGIC,
            {
                "image_shape": list(layout.image_shape),
                "action_size": layout.action_size,
                "columns": [[name, *column] for name, column in layout.columns.items()],
                "totals": asdict(totals),
            },
        )
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(header)
        publish(temporary, path)
        segment = cls(path, memoryview(b""), len(header))
        segment.open_for_writing(size_bytes)
        return segment

    def count(self, record: Record) -> None:
        """Notes a record that the file holds."""
        self.rows += record.rows
        self.num_records += 1

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
        parsed = _read_frame(memoryview(frame), 0, RECORD_MAGIC)
        record = Record(**parsed.header, data=self._data, payload_at=self.end + parsed.payload_at)
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


def segment_bytes(layout: Layout, rows: int) -> int:
    """Returns room for `rows` rows, even if each is a record of its own: holes cost nothing."""
    return rows * (layout.row_bytes + _RECORD_OVERHEAD_BYTES)


def publish(temporary: Path, path: Path) -> None:
    """Moves a finished file to its name so that it survives a power cut."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    directory_fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)


@contextlib.contextmanager
def explained(action: str, path: Path) -> Generator[None]:
    """Re-raises an OSError with what was tried, where, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{action} failed: {error.strerror}; free disk space or make the place writable and "
            "try again: what was stored before is untouched",
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


def open_segments(directory: Path, layout: Layout) -> OpenedSegments:
    """Opens all segments of a directory and repairs what is damaged.

    The torn tail of the newest segment is cut. A segment damaged elsewhere is kept as
    `*.damaged` and replaced by one with its whole records; a file of a segment's name that is
    none is renamed to `*.damaged`. Payloads are only read in the newest segment, the only one
    that can have been written when a process was killed.

    Raises:
        ValueError: a segment holds rows of another layout, or is of another format version;
            nothing was changed.
    """
    headers: dict[Path, FileHeader] = {}
    foreign: dict[Path, str] = {}
    for path in sorted(directory.glob("[0-9]" * 8 + ".segment")):
        try:
            headers[path] = _read_header_of(path, layout)
        except DamagedFrame as damage:
            foreign[path] = str(damage)
    for temporary in directory.glob("*.tmp"):
        temporary.unlink()
    for path, reason in foreign.items():
        _log.warning("%s is not a replay segment (%s): renamed to *.damaged", path, reason)
        path.rename(path.with_name(path.name + ".damaged"))
    segments: list[Segment] = []
    records: list[Record] = []
    totals, num_repaired = Totals(), len(foreign)
    for position, (path, header) in enumerate(headers.items()):
        found, num_faults = _scan_repaired(path, header, position == len(headers) - 1)
        num_repaired += num_faults
        totals = header.totals
        segments.append(Segment(path, memoryview(b""), found.end))
        for record in found.records:
            segments[-1].count(record)
            totals = totals.after(record)
        records.extend(found.records)
    totals = replace(totals, repaired_records=totals.repaired_records + num_repaired)
    return OpenedSegments(segments, records, totals, is_repaired=num_repaired > 0)


def _read_header_of(path: Path, layout: Layout) -> FileHeader:
    header = read_file_header(map_file(path))
    if header.layout != layout:
        raise ValueError(
            f"{path} holds rows of image shape {header.layout.image_shape} and action size "
            f"{header.layout.action_size}, but {layout.image_shape} and {layout.action_size} were "
            "asked for; use the environment it was recorded from, or another directory"
        )
    return header


def _scan_repaired(path: Path, header: FileHeader, is_newest: bool) -> tuple[Scan, int]:
    """Returns what a segment holds, and how many faults were removed from it."""
    data = map_file(path)
    found = scan(data, header, is_payload_checked=is_newest)
    if not found.faults:
        return found, 0
    _repair(path, data, found.faults, is_newest=is_newest)
    repaired = scan(map_file(path), header, is_payload_checked=False)
    return repaired, len(found.faults)


def _repair(path: Path, data: memoryview, faults: list[Fault], *, is_newest: bool) -> None:
    """Removes the damaged stretches of a segment; all but a torn tail are kept in `*.damaged`."""
    for fault in faults:
        _log.warning(
            "%s: bytes %d to %d hold no whole record (%s): removed",
            *(path, fault.start, fault.end, fault.reason),
        )
    if is_newest and len(faults) == 1 and faults[0].is_tail:
        os.truncate(path, faults[0].start)
        return
    kept = path.with_name(path.name + ".damaged")
    shutil.copyfile(path, kept)
    _log.warning("%s: the damaged segment is kept as %s", path, kept)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        at = 0
        for fault in faults:
            file.write(data[at : fault.start])
            at = fault.end
        file.write(data[at:])
    publish(temporary, path)
