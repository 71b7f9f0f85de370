"""The bytes of a segment file: a header, then records of episode rows.

    file     = frame(DSEG, header: layout and the totals before this segment), then records
    record   = frame(DREC, header: incarnation, episode, first_step, rows, is_last, is_terminal,
                     is_compressed; payload: columns, or one zstandard frame of them)
    columns  = image, prev_action, reward, the vector if there is one,
               is_first, is_last, is_terminal
    frame    = prefix, msgpack header, payload
    prefix   = magic 4s, version u16, header bytes u16, payload bytes u64,
               crc32 of all these and the header u32, crc32 of header and payload u32

The first checksum lets a scan trust a header without reading the payload. Integers and floats
are little-endian; each column is contiguous, `[rows, ...]`, with dtype and row shape as named in
the file header. Columns of which compression would not save a tenth are stored as they are.

Version 1 compresses nothing; it is read, and goes on in version 2.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

from dreamer_core.errors import BadInput
from dreamer_core.replay.codec import compress, decompress
from dreamer_core.types import EnvSpec, EpisodeChunk

FORMAT_VERSION = 2
SEGMENT_MAGIC = b"DSEG"
RECORD_MAGIC = b"DREC"
_FIELDS = struct.Struct("<4sHHQ")
_CHECKSUMS = struct.Struct("<II")
_PREFIX_BYTES = _FIELDS.size + _CHECKSUMS.size


class DamagedFrame(ValueError):
    """These bytes are not a whole frame; the message says why."""


class SegmentVersionError(BadInput):
    """The file is whole, but was written in another format version."""


class ByteSource(Protocol):
    """The bytes of a file: a map of it, or reads on demand."""

    def __len__(self) -> int:
        """Size in bytes."""
        ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview:
        """Bytes of a stretch; fewer where the file has become shorter."""
        ...


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The shapes of one row."""

    image_shape: tuple[int, ...]
    """[H, W, channels]."""
    action_size: int
    """A."""
    vector_size: int = 0
    """V; without a vector there is no such column."""

    @staticmethod
    def of(spec: EnvSpec) -> RowLayout:
        """Returns that of rows of an environment."""
        return RowLayout(spec.image_shape, spec.action_size, spec.vector_size)

    def __str__(self) -> str:
        vector = f" and vector size {self.vector_size}" if self.vector_size else ""
        return f"image shape {self.image_shape} and action size {self.action_size}{vector}"

    @property
    def columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and row shape of each column, in the order of the payload."""
        flag = ("|b1", ())
        vector = {"vector": ("<f4", (self.vector_size,))} if self.vector_size else {}
        return {
            "image": ("|u1", self.image_shape),
            "prev_action": ("<f4", (self.action_size,)),
            "reward": ("<f4", ()),
            **vector,
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
    def vector_bytes(self) -> int:
        """Size of one vector."""
        return 4 * self.vector_size

    @property
    def row_bytes(self) -> int:
        """Size of one row over all columns."""
        return self.image_bytes + self.prev_action_bytes + 4 + self.vector_bytes + 3


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

    @property
    def rows(self) -> int:
        """Rows ever stored: the place of a segment in the order of writing."""
        return self.policy_steps + self.episodes

    def after(self, record: Record) -> Totals:
        """Returns the totals once `record` is stored."""
        begun = int(record.first_step == 0)
        return replace(
            self,
            policy_steps=self.policy_steps + record.rows - begun,
            episodes=self.episodes + begun,
            last_incarnation=max(record.incarnation, self.last_incarnation or 0),
        )

    def after_lost_beginning(self) -> Totals:
        """Returns the totals with an episode whose first record, not counted, was lost."""
        return replace(self, episodes=self.episodes + 1)

    def after_repairs(self, num_repairs: int) -> Totals:
        """Returns the totals with so many more repairs."""
        return replace(self, repaired_records=self.repaired_records + num_repairs)


@dataclass(slots=True, eq=False)
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
    data: ByteSource
    """The segment's bytes."""
    start: int
    """Offset of its frame."""
    payload_at: int
    """Offset of the payload."""
    end: int
    """Offset after it."""
    is_checked: bool
    """Whether the payload is known to match its checksum."""
    is_compressed: bool = False
    """Whether the payload is a zstandard frame of the columns, and not they themselves."""
    columns_bytes: int | None = None
    """Size of all columns; None of a record that this process has written."""

    @property
    def episode_key(self) -> tuple[int, int]:
        """(incarnation, episode)."""
        return self.incarnation, self.episode

    @property
    def place(self) -> tuple[int, int, int]:
        """(incarnation, episode, first_step): names it, and grows in the order of writing."""
        return self.incarnation, self.episode, self.first_step

    def columns(self) -> bytes | memoryview:
        """Returns the bytes of all columns; the record is intact."""
        payload = self.data[self.payload_at : self.end]
        return decompress(payload, self.columns_bytes) if self.is_compressed else payload

    def is_intact(self) -> bool:
        """Whether the payload matches its checksum and decodes; reads it the first time only."""
        if not self.is_checked:
            try:
                frame = read_frame(self.data, self.start, RECORD_MAGIC)
                self.is_checked = frame.end == self.end and frame.is_whole(self.data)
                if self.is_checked and self.is_compressed:
                    self.columns()
            except ValueError:
                self.is_checked = False
        return self.is_checked


@dataclass(frozen=True, slots=True)
class RecordFrame:
    """A prefix and header that match their checksum."""

    header: dict[str, Any]
    header_checksum: int
    payload_at: int
    end: int
    checksum: int

    def is_whole(self, data: ByteSource) -> bool:
        """Whether the payload matches its checksum; reads it."""
        return zlib.crc32(data[self.payload_at : self.end], self.header_checksum) == self.checksum


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a segment file begins with."""

    layout: RowLayout
    totals: Totals
    """Before this segment."""
    end: int
    """Where the records begin."""


def encode_frame(magic: bytes, header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Returns prefix, header and payload as they lie on disk."""
    packed = cast(bytes, msgpack.packb(dict(header)))  # pyright: ignore[reportUnknownMemberType]
    fields = _FIELDS.pack(magic, FORMAT_VERSION, len(packed), len(payload))
    checksums = _CHECKSUMS.pack(
        zlib.crc32(fields + packed), zlib.crc32(payload, zlib.crc32(packed))
    )
    return b"".join((fields, checksums, packed, payload))


def read_frame(data: ByteSource, at: int, magic: bytes) -> RecordFrame:
    """Reads a prefix and header; the payload is only known to lie within the file.

    Raises:
        DamagedFrame: no frame with this magic begins here, or its header is damaged.
        SegmentVersionError: it was written in another format version.
    """
    header_at = at + _PREFIX_BYTES
    prefix = data[at:header_at]
    if len(prefix) < _PREFIX_BYTES:
        raise DamagedFrame("the file ends within a prefix")
    found, version, header_bytes, payload_bytes = _FIELDS.unpack_from(prefix)
    if found != magic:
        raise DamagedFrame(f"wanted {magic!r}, found {found!r}")
    payload_at = header_at + header_bytes
    header_checksum, checksum = _CHECKSUMS.unpack_from(prefix, _FIELDS.size)
    packed = bytes(data[header_at:payload_at])
    if zlib.crc32(bytes(prefix[: _FIELDS.size]) + packed) != header_checksum:
        raise DamagedFrame("the header does not match its checksum")
    if version > FORMAT_VERSION:
        raise SegmentVersionError(
            f"wanted segment format {FORMAT_VERSION} or older, found {version}; open it with the "
            "version of dreamer_core that wrote it, or use another directory"
        )
    if payload_at + payload_bytes > len(data):
        raise DamagedFrame("the file ends within a record")
    header = cast(dict[str, Any], msgpack.unpackb(packed))  # pyright: ignore[reportUnknownMemberType]
    return RecordFrame(header, zlib.crc32(packed), payload_at, payload_at + payload_bytes, checksum)


def encode_file_header(layout: RowLayout, totals: Totals) -> bytes:
    """Returns what a segment file begins with."""
    return encode_frame(
        SEGMENT_MAGIC,
        {
            "image_shape": list(layout.image_shape),
            "action_size": layout.action_size,
            **({"vector_size": layout.vector_size} if layout.vector_size else {}),
            "columns": [[name, *column] for name, column in layout.columns.items()],
            "totals": asdict(totals),
        },
    )


def read_file_header(data: ByteSource) -> FileHeader:
    """Reads the beginning of a segment file.

    Raises:
        DamagedFrame: this is no segment, or its header is damaged.
        SegmentVersionError: it was written in another format version.
    """
    frame = read_frame(data, 0, SEGMENT_MAGIC)
    header = frame.header
    sizes = header["action_size"], header.get("vector_size", 0)
    layout = RowLayout(tuple(header["image_shape"]), *sizes)
    return FileHeader(layout, Totals(**header["totals"]), frame.end)


def encode_chunk(chunk: EpisodeChunk, layout: RowLayout, *, is_compressed: bool = True) -> bytes:
    """Returns a checked chunk as a record.

    Args:
        chunk: see checks.py.
        layout: of its rows.
        is_compressed: if that makes it smaller.
    """
    columns = b"".join(
        np.ascontiguousarray(getattr(chunk, name), dtype=dtype).tobytes()
        for name, (dtype, _) in layout.columns.items()
    )
    compressed = compress(columns) if is_compressed else None
    header = {
        "incarnation": chunk.incarnation,
        "episode": chunk.episode,
        "first_step": chunk.first_step,
        "rows": len(chunk),
        "is_last": bool(chunk.is_last[-1]),
        "is_terminal": bool(chunk.is_terminal[-1]),
        "is_compressed": compressed is not None,
    }
    return encode_frame(RECORD_MAGIC, header, columns if compressed is None else compressed)


def decode_chunk(record: Record, layout: RowLayout) -> EpisodeChunk:
    """Returns a record's rows, read-only; `encode_chunk` backwards."""
    columns: dict[str, Any] = {}
    stored, at = record.columns(), 0
    for name, (dtype, row_shape) in layout.columns.items():
        size = record.rows * np.dtype(dtype).itemsize * math.prod(row_shape)
        column = np.frombuffer(stored[at : at + size], dtype)
        columns[name] = column.reshape(record.rows, *row_shape)
        at += size
    return EpisodeChunk(
        incarnation=record.incarnation,
        episode=record.episode,
        first_step=record.first_step,
        **columns,
    )
