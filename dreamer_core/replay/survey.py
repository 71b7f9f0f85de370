"""Reading of segment files: which records are whole, which bytes are damage, what the order is.

Nothing here writes. A replay that opens a directory repairs what `survey` finds (segments.py);
`dreamer replay` only tells it (reader.py).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import weakref
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from dreamer_core.errors import BadInput
from dreamer_core.replay.format import (
    RECORD_MAGIC,
    ByteSource,
    DamagedFrame,
    FileHeader,
    Record,
    RowLayout,
    Totals,
    read_file_header,
    read_frame,
)

_MAGIC_PATTERN = re.compile(re.escape(RECORD_MAGIC))
_NAME = "[0-9]" * 8 + ".segment"


class SegmentsRenamed(BadInput):
    """The names of segment files do not follow the order in which they were written."""


class FileReads:
    """Reads a file on demand, as long as it was when opened.

    Unlike a map it is safe while another process cuts the file, where a map would end this
    process.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        self._size = os.fstat(self._fd).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return os.pread(self._fd, max(0, stop - start), start)


def map_file(path: Path) -> memoryview:
    """Maps a file for reading; an empty one gives an empty view."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))


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


def scan(data: ByteSource, header: FileHeader, *, is_payload_checked: bool) -> Scan:
    """Returns the records and the damage found between and after them.

    A rest of zeros is the unused part of a segment that was being written, and no damage.
    """
    records: list[Record] = []
    faults: list[Fault] = []
    at = end = header.end
    while at < len(data) and not _is_unused(data, at):
        try:
            frame = read_frame(data, at, RECORD_MAGIC)
            num_bytes = frame.header["rows"] * header.layout.row_bytes
            is_compressed = frame.header.get("is_compressed", False)
            if frame.end - frame.payload_at != num_bytes and not is_compressed:
                raise DamagedFrame("the payload has another size than its rows need")
            record = Record(
                **frame.header,
                data=data,
                start=at,
                payload_at=frame.payload_at,
                end=frame.end,
                is_checked=False,
                columns_bytes=num_bytes,
            )
            if is_payload_checked and not record.is_intact():
                raise DamagedFrame("the payload does not match its checksum")
        except DamagedFrame as damage:
            whole = _find_whole_record(data, at + 1)
            stop = len(data) if whole is None else whole
            faults.append(Fault(at, stop, str(damage), whole is None))
            at = stop
            continue
        records.append(record)
        at = end = frame.end
    return Scan(records, end, faults)


def _is_unused(data: ByteSource, at: int) -> bool:
    """Whether zeros fill the file from here on."""
    return data[at : at + 1] == b"\0" and not np.frombuffer(data[at:], np.uint8).any()


def _find_whole_record(data: ByteSource, start: int) -> int | None:
    """Returns where the next whole record begins, or None. Only runs after damage."""
    for found in _MAGIC_PATTERN.finditer(data[start:]):
        at = start + found.start()
        with contextlib.suppress(DamagedFrame):
            if read_frame(data, at, RECORD_MAGIC).is_whole(data):
                return at
    return None


@dataclass(slots=True)
class SegmentFile:
    """A segment file and what was found in it."""

    path: Path
    data: ByteSource
    header: FileHeader
    records: list[Record]
    end: int
    """Where the last whole record ends."""
    faults: list[Fault]

    @property
    def number(self) -> int:
        """From its name; grows in the order of writing."""
        return int(self.path.stem)

    @property
    def rows(self) -> int:
        """In whole records."""
        return sum(record.rows for record in self.records)

    def scan(self, *, is_payload_checked: bool) -> None:
        """Looks into the file."""
        found = scan(self.data, self.header, is_payload_checked=is_payload_checked)
        self.records, self.end, self.faults = found.records, found.end, found.faults


@dataclass(slots=True)
class Survey:
    """What a directory of segments holds."""

    files: list[SegmentFile] = field(default_factory=list[SegmentFile])
    """In the order of writing, which is that of their names."""
    refused: dict[Path, str] = field(default_factory=dict[Path, str])
    """Files of a segment's name that hold nothing to be used, and why."""

    @property
    def records(self) -> list[Record]:
        """Of all files, in the order of writing."""
        return [record for file in self.files for record in file.records]

    @property
    def totals(self) -> Totals:
        """After the newest record.

        A file's header stands for what was lost before it. In the newest file an episode may have
        lost its first record, which is then counted with the first one left.
        """
        totals, last_key = Totals(), None
        for file in self.files:
            before = file.header.totals
            is_next = before.rows == totals.rows
            repaired = max(before.repaired_records, totals.repaired_records)
            totals = max(before, totals, key=lambda each: each.rows)
            totals = replace(totals, repaired_records=repaired)
            for record in file.records:
                totals = totals.after(record)
                if is_next and record.first_step > 0 and record.episode_key != last_key:
                    totals = totals.after_lost_beginning()
                is_next, last_key = True, record.episode_key
        return totals


def survey(
    directory: Path, layout: RowLayout | None, open_file: Callable[[Path], ByteSource]
) -> Survey:
    """Looks through all segments of a directory and changes nothing.

    Records are named by incarnation, episode and first step, which grow in the order of writing,
    and files by the totals in their headers. So a copy of a file is refused, and a record that lies
    where it was not written is a fault.
    Payloads are only read in the newest file, the only one that can have been written when a
    process was killed; others are checked when their rows are first read (`Record.is_intact`).

    Args:
        directory: where `*.segment` files lie.
        layout: of every row; None for that of the first file, others then being refused.
        open_file: `map_file` for the owner of the directory, else `FileReads`.

    Raises:
        BadInput: a segment holds rows of another layout, or is of another format version.
        SegmentsRenamed: ... or has a name that does not follow the order of writing.
    """
    found = Survey()
    _refuse_other_names(directory)
    for path in sorted(directory.glob(_NAME)):
        try:
            data = open_file(path)
            header = read_file_header(data)
        except DamagedFrame as damage:
            found.refused[path] = f"is not a replay segment ({damage})"
            continue
        except FileNotFoundError:  # evicted since the directory was listed
            continue
        if header.layout != (layout or header.layout):
            raise BadInput(_other_layout(path, header.layout, layout))
        layout = header.layout
        found.files.append(SegmentFile(path, data, header, [], header.end, []))
        found.files[-1].scan(is_payload_checked=False)
    found.files.sort(key=lambda file: (file.header.totals.rows, bool(file.records), file.number))
    _refuse_copies(found)
    if found.files:
        found.files[-1].scan(is_payload_checked=True)
    _refuse_records_out_of_order(found)
    _check_names(directory, found.files)
    for file in found.files[:-1]:
        if file.end < len(file.data) and not (file.faults and file.faults[-1].is_tail):
            fault = Fault(file.end, len(file.data), "zeros follow the last record", is_tail=True)
            file.faults.append(fault)
    return found


def _refuse_other_names(directory: Path) -> None:
    """Raises SegmentsRenamed for a segment file that would not be found under its name."""
    others = set(directory.glob("*.segment")) - set(directory.glob(_NAME))
    if others:
        raise SegmentsRenamed(
            f"{directory} holds {', '.join(sorted(path.name for path in others))}, but segment "
            "files are named by eight digits. Give a renamed one its name back, put a copy "
            "elsewhere, and try again; nothing was changed"
        )


def _check_names(directory: Path, files: Sequence[SegmentFile]) -> None:
    """Raises SegmentsRenamed if the numbers of the files do not grow in the order of writing."""
    names = [file.path.name for file in files]
    moved = [name for name, right in zip(names, sorted(names), strict=True) if name != right]
    if moved:
        raise SegmentsRenamed(
            f"Wanted the segment files of {directory} under the names they were written with, but "
            f"some were renamed: {', '.join(moved)} were written in this order. Give them these "
            "names so that the numbers grow in it, and try again; nothing was changed"
        )


def _other_layout(path: Path, found: RowLayout, wanted: RowLayout | None) -> str:
    assert wanted is not None
    return (
        f"{path} holds rows of {found}, but {wanted} were asked for; "
        "use the environment it was recorded from, or another directory"
    )


def _refuse_copies(found: Survey) -> None:
    """Keeps of several files that begin at the same row the one with most rows.

    Of equal ones it is the first whose name comes after that of the file before it.
    """
    last = -1
    for _, group in groupby(found.files, key=lambda file: file.header.totals.rows):
        copies = [file for file in group if file.records]
        if copies:
            kept = max(copies, key=lambda file: (file.rows, file.number > last, -file.number))
            reason, last = f"begins at the same row as {kept.path.name}", kept.number
            found.refused.update({file.path: reason for file in copies if file is not kept})
    found.files = [file for file in found.files if file.path not in found.refused]


def _refuse_records_out_of_order(found: Survey) -> None:
    """Makes faults of records that are not in the longest sequence in order."""
    records = found.records
    if all(a.place < b.place for a, b in pairwise(records)):
        return
    in_order = _longest_in_order([record.place for record in records])
    kept = {id(records[index]) for index in in_order}
    for file in list(found.files):
        strays = [record for record in file.records if id(record) not in kept]
        if strays and len(strays) == len(file.records):
            found.refused[file.path] = "holds rows that others hold or that are out of order"
            found.files.remove(file)
            continue
        reason = "a record that another file or place holds, or that is out of order"
        file.faults += [Fault(r.start, r.end, reason, is_tail=False) for r in strays]
        file.faults.sort(key=lambda fault: fault.start)
        file.records = [record for record in file.records if id(record) in kept]


def _longest_in_order(places: list[tuple[int, int, int]]) -> list[int]:
    """Indices of a longest strictly growing subsequence, the first of equal places being taken."""
    ends: list[int] = []  # index of the smallest place that ends a sequence of each length
    previous: list[int | None] = []
    for index, place in enumerate(places):
        length = bisect_left(ends, place, key=places.__getitem__)
        previous.append(ends[length - 1] if length else None)
        if length == len(ends) or places[ends[length]] != place:
            ends[length : length + 1] = [index]
    chain: list[int] = []
    at = ends[-1] if ends else None
    while at is not None:
        chain.append(at)
        at = previous[at]
    return chain
