"""What lies in a replay directory, for a reader beside the run: nothing is locked or changed.

The files are read as they were when opened; rows that a run evicts meanwhile are still read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dreamer_core.errors import BadInput, naming
from dreamer_core.files import NPZ_ERRORS, whole_file
from dreamer_core.replay.format import Record, RowLayout, Totals, decode_chunk, read_file_header
from dreamer_core.replay.survey import FileReads, SegmentFile, Survey, scan, survey
from dreamer_core.types import Batch, UInt8Array

_WRITE_PATIENCE_S = 0.2
_WRITE_LOOKS = 5

SegmentState = Literal["closed", "being written", "damaged"]


class NoReplay(BadInput):
    """The directory holds no rows."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that the next start would remove or set aside."""

    path: Path
    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSummary:
    """One segment file."""

    path: Path
    rows: int
    records: int
    episodes: int
    """Of which rows are held here."""
    bytes: int
    """In use, without the hole of a file that is being written."""
    state: SegmentState
    lost_rows: int
    """Rows stored since the file before it was begun that no file holds: lost to damage, or with
    a deleted file. What was evicted before the first file does not count."""


class ReplayFiles:
    """A replay directory as it was at one moment.

    A run may be writing a record, or begin a file while the directory is listed. So a torn record
    at the end and missing rows are looked at for a second before they are believed; what is not
    whole then was torn by a kill, and is damage that the next start cuts off.

    Raises:
        NoReplay: the directory holds no segments.
        BadInput: they are of another format version, or a file cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        found = _look(directory)
        for _ in range(_WRITE_LOOKS):
            if not _has_torn_tail(found) and not any(_lost_rows(found.files)):
                break
            time.sleep(_WRITE_PATIENCE_S)
            found = _look(directory)
        if not found.files and not found.refused:
            raise NoReplay(
                f"Wanted the segments of a replay, but {directory} holds none; name a run that has "
                "stored rows"
            )
        self._found = found
        self.directory = directory
        self.is_tail_torn = _has_torn_tail(found)
        """Whether the newest file ends with a record that is not whole."""
        self.set_aside = sorted(directory.glob("*.damaged"))
        """Files kept by earlier repairs."""

    @property
    def totals(self) -> Totals:
        """Ever stored."""
        return self._found.totals

    @property
    def layout(self) -> RowLayout | None:
        """Of every row; None if no file is whole."""
        files = self._found.files
        return files[0].header.layout if files else None

    @property
    def records(self) -> list[Record]:
        """Of all files, in the order of writing."""
        return self._found.records

    def segments(self) -> list[SegmentSummary]:
        """Returns a summary of each file that a replay would use, oldest first."""
        files = self._found.files
        return [
            SegmentSummary(
                path=file.path,
                rows=file.rows,
                records=len(file.records),
                episodes=len({record.episode_key for record in file.records}),
                bytes=file.end,
                state=_state(file, is_newest=file is files[-1]),
                lost_rows=lost_rows,
            )
            for file, lost_rows in zip(files, _lost_rows(files), strict=True)
        ]

    def damage(self) -> list[Damage]:
        """Returns what is damaged, as far as it shows without reading the older payloads."""
        refused = [
            Damage(path, 0, path.stat().st_size, reason)
            for path, reason in self._found.refused.items()
        ]
        faults = [
            Damage(file.path, fault.start, fault.end, fault.reason)
            for file in self._found.files
            for fault in file.faults
        ]
        return refused + faults

    def verify(self) -> Iterator[Record | Damage]:
        """Reads every payload; yields each record, or the damage in its place."""
        for record in self.records:
            yield record if self._is_intact(record) else self._damage_of(record)

    def export(
        self, to: Path, *, newest: int | None = None, is_compressed: bool = False
    ) -> Iterator[ExportedEpisode | Damage]:
        """Writes episodes as `.npz`, one file each; yields what was written or is damaged.

        A file holds the columns aligned as in types.py, `incarnation`, `episode`, `first_step` of
        its first row, and `is_complete`: from its first row to its end. The head of an episode
        may be evicted; the newest may still be open; one that was cut short has no last row; and
        one that is damaged in the middle gives two files.

        Args:
            to: made if missing; must be empty.
            newest: so many of the newest episodes; None for all.
            is_compressed: smaller files that take longer to write.

        Raises:
            BadInput: `to` cannot be written, or holds files and nothing was written.
            Failed: the disk is full; what was yielded is whole.
        """
        _make_empty(to)
        keys = list(dict.fromkeys(record.episode_key for record in self.records))
        wanted = set(keys if newest is None else keys[-newest:])
        piece: list[Record] = []
        for record in self.records:
            if record.episode_key not in wanted:
                continue
            is_intact = self._is_intact(record)
            if piece and not (is_intact and _continues(record, piece[-1])):
                yield self._write(to, piece, is_compressed=is_compressed)
                piece = []
            if is_intact:
                piece.append(record)
            else:
                yield self._damage_of(record)
        if piece:
            yield self._write(to, piece, is_compressed=is_compressed)

    def _is_intact(self, record: Record) -> bool:
        with _reading(self.directory):
            return record.is_intact()

    def _damage_of(self, record: Record) -> Damage:
        path = next(file.path for file in self._found.files if file.data is record.data)
        return Damage(path, record.start, record.end, "the payload does not match its checksum")

    def _write(self, to: Path, piece: Sequence[Record], *, is_compressed: bool) -> ExportedEpisode:
        layout, first = self.layout, piece[0]
        assert layout is not None
        chunks = [decode_chunk(record, layout) for record in piece]
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(chunk, name) for chunk in chunks])
            for name in layout.columns
        }
        is_complete = first.first_step == 0 and piece[-1].is_last
        length = sum(chunk.policy_steps for chunk in chunks)
        episode_return = float(columns["reward"].sum(dtype=np.float64))
        path = to / (
            f"incarnation{first.incarnation:04d}-episode{first.episode:06d}"
            f"-step{first.first_step:06d}-length{length}-return{episode_return:g}.npz"
        )
        save: Callable[..., None] = np.savez_compressed if is_compressed else np.savez
        with _exporting(to), whole_file(path) as file:
            save(
                file,
                **columns,
                incarnation=first.incarnation,
                episode=first.episode,
                first_step=first.first_step,
                is_complete=is_complete,
            )
        return ExportedEpisode(path=path, rows=len(columns["reward"]), is_complete=is_complete)


def read_episode(path: Path | str) -> Batch:
    """Reads an exported episode as a batch of one sequence [1, T]; see `ReplayFiles.export`.

    Raises:
        BadInput: the file cannot be read, or is none of these.
    """
    names = [field.name for field in fields(Batch)]
    try:
        with (
            naming(f"read the episode {path}", "Name a file that an export wrote"),
            np.load(path) as file,
        ):
            columns: dict[str, Any] = {n: file[n][None].copy() for n in names if n in file}
        columns["is_first"][:, 0] = True  # of an episode without its head
        return Batch(**columns)
    except (*NPZ_ERRORS, LookupError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"Wanted an episode that `dreamer replay export` wrote, but {path} is none ({error})"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedEpisode:
    """One file written by `export`."""

    path: Path
    rows: int
    is_complete: bool


def newest_image(directory: Path) -> UInt8Array | None:
    """Returns the image [64, 64, channels] of the newest row in a replay directory.

    Of the files only the newest with a row is read. None where there is no such row, or it cannot
    be read, is damaged or has no image.
    """
    for path in sorted(directory.glob("*.segment"), reverse=True):
        with suppress(OSError, ValueError):  # DamagedFrame and versions that are not known are such
            data = FileReads(path)
            header = read_file_header(data)
            records = scan(data, header, is_payload_checked=False).records
            if records and records[-1].is_intact():
                image = decode_chunk(records[-1], header.layout).image
                return image[-1] if image.size else None
    return None


def _look(directory: Path) -> Survey:
    with _reading(directory):
        return survey(directory, None, FileReads)


def _reading(directory: Path) -> AbstractContextManager[None]:
    return naming(f"read the replay in {directory}", "Mend its permissions, or its disk")


def _has_torn_tail(found: Survey) -> bool:
    newest = found.files[-1:]
    return any(fault.is_tail for file in newest for fault in file.faults)


def _lost_rows(files: Sequence[SegmentFile]) -> list[int]:
    """Rows between the end of each file's predecessor and its own beginning."""
    begins = [file.header.totals.rows for file in files]
    ends = [begin + file.rows for begin, file in zip(begins, files, strict=True)]
    return [max(0, begin - end) for begin, end in zip(begins, begins[:1] + ends, strict=False)]


def _state(file: SegmentFile, *, is_newest: bool) -> SegmentState:
    if file.faults:
        return "damaged"
    return "being written" if is_newest and file.end < len(file.data) else "closed"


def _continues(record: Record, before: Record) -> bool:
    """Whether its rows come right after the other's, in the same episode."""
    is_same = record.episode_key == before.episode_key
    return is_same and before.first_step + before.rows == record.first_step


def _make_empty(to: Path) -> None:
    with _exporting(to):
        to.mkdir(parents=True, exist_ok=True)
        is_empty = not any(to.iterdir())
    if not is_empty:
        raise BadInput(
            f"Wanted a new or empty directory to export to, but {to} holds files; nothing was "
            "written. Name another with --to"
        )


def _exporting(to: Path) -> AbstractContextManager[None]:
    to_do = (
        "The .npz files written before are whole. Free disk space or make the place writable, or "
        "export fewer with --episodes"
    )
    return naming(f"export to {to}", to_do)
