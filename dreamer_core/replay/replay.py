"""Replay: chunks of episodes in, [B, T] sequences out; every acknowledged chunk is on disk.

Rows lie in segment files (segments.py) and are read through the page cache; memory holds only
where each chunk lies (index.py). What is drawn says draw.py, what is refused checks.py.

A new episode closes the one before it: if that had no `is_last`, it was cut short (prefill ended,
or the collector died), which is an end by limit and not terminal. No sequence runs across a join
without `is_first`.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamer_core.config import ReplayConfig
from dreamer_core.errors import BadInput, refusing_other_kinds
from dreamer_core.files import wait_for_lock
from dreamer_core.replay.checks import check_columns, check_flags, is_duplicate
from dreamer_core.replay.draw import draw
from dreamer_core.replay.format import Record, RowLayout, encode_chunk
from dreamer_core.replay.index import EpisodeIndex
from dreamer_core.replay.rewind import ReplayPosition, RewindTarget, rewind
from dreamer_core.replay.segments import (
    OpenedSegments,
    Segment,
    explained,
    open_segments,
    segment_bytes,
)
from dreamer_core.types import Batch, EnvSpec, EpisodeChunk

_LOCK_PATIENCE_S = 15.0  # a replay server that was killed while it was frozen lives on for a moment


class StaleIncarnation(RuntimeError):
    """The chunk comes from a collector that was replaced; its successor has already written."""


class ReplayInUse(BadInput):
    """Another process, or another Replay of this one, has the directory open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCounts:
    """What the replay holds and has ever held."""

    policy_steps: int
    """Policy steps ever stored: rows that are not the first of an episode."""
    episodes: int
    """Episodes ever ended, be it by `is_last` or cut short by the next; not the open one."""
    stored_steps: int
    """Rows held now."""
    stored_episodes: int
    """Episodes of which rows are held now, the open one included."""
    stored_bytes: int
    """Size of the segment files."""
    short_episodes: int
    """Closed episodes with fewer than T rows held now: sequences from them are continued."""
    last_incarnation: int | None
    """Highest incarnation that has written; None before the first chunk."""
    repaired_records: int
    """Torn tails cut off, damaged stretches removed and foreign files set aside, ever."""
    fenced_inserts: int
    """Chunks refused since the replay was opened, because their collector had been replaced."""


class Replay:
    """Stores chunks durably and draws batches. One process and one thread at a time.

    Args:
        directory: made if missing; holds segment files only.
        config: capacity, segment size, B and T. May differ from one opening to the next.
        image_shape: [H, W, channels] of every row.
        action_size: A.
        vector_size: V; 0 where no vector is observed.
        is_rewindable: evicted segments stay on disk until `release`, so that the replay can be
            taken back to the position of the newest checkpoint (rewind.py).
        target: where to go back to before opening, if that loses nothing.
        is_compressed: new rows are, losslessly, where it makes them smaller.

    Raises:
        BadInput: the directory holds rows of another shape or format, its files were renamed, or it
            is none; nothing was changed.
        ReplayInUse: the directory is open elsewhere.
        StorageFailed: it cannot be made, read or written.
    """

    def __init__(
        self,
        directory: Path,
        config: ReplayConfig,
        *,
        image_shape: tuple[int, ...],
        action_size: int,
        vector_size: int = 0,
        is_rewindable: bool = False,
        target: RewindTarget | None = None,
        is_compressed: bool = True,
    ) -> None:
        self._directory = directory
        self._is_compressed = is_compressed
        self._is_rewindable = is_rewindable
        self._evicted: list[Path] = []
        self._fence = 0
        self._fenced_inserts = 0
        self._config = config
        self._layout = RowLayout(tuple(image_shape), action_size, vector_size)
        with explained("opening the replay", directory), refusing_other_kinds(str(directory)):
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self, directory)
            try:
                self.is_rewound = target is not None and rewind(directory, target)
                """Whether the rows after the target were removed."""
                opened = open_segments(directory, self._layout)
                self._resume(opened)
            except BaseException:
                self._lock()
                raise
        self._index = EpisodeIndex(config.batch_length)
        for record in opened.records:
            self._index.add(record)
        if is_rewindable:
            self._evict()  # what had been evicted but not released

    def insert(self, chunk: EpisodeChunk) -> bool:
        """Stores a chunk; when this returns, a kill of the process cannot lose it.

        Returns:
            False if its rows were stored before, so that a retry is harmless.

        Raises:
            StaleIncarnation: a later incarnation has already written.
            ValueError: rows are missing before this chunk, its episode has ended, or its values
                break the alignment chart. TypeError: a column has another dtype.
            StorageFailed: it could not be written; nothing changed, and it may be inserted again.
        """
        if not self._lock.alive:
            raise ValueError(f"the replay in {self._directory} was closed; open it again")
        check_columns(chunk, self._layout)
        check_flags(chunk)
        self._refuse_stale(chunk)
        if is_duplicate(chunk, self._index):
            return False
        with explained("storing a chunk", self._directory):
            frame = encode_chunk(chunk, self._layout, is_compressed=self._is_compressed)
            segment = self._segment_for(frame, len(chunk))
            record = segment.append(frame)
        self._totals = self._totals.after(record)
        self._index.add(record)
        self._evict()
        return True

    def fence(self, incarnation: int) -> None:
        """Refuses from now on what collectors before this incarnation may still send."""
        self._fence = max(self._fence, incarnation)

    def can_sample(self) -> bool:
        """Whether an episode is eligible and T rows are held in all."""
        held = self._index
        return held.stored_steps >= held.batch_length and held.num_eligible > 0

    def sample(self, gradient_step: int, seed: int) -> Batch:
        """Draws B sequences of T rows (DreamerV2, sec. 2.1; see draw.py).

        The draw depends on the content, `seed` and `gradient_step` alone, so that a resumed run
        needs no generator state. The arrays are new in each call.

        Raises:
            BadInput: `can_sample` is false.
        """
        while self.can_sample():
            generator = np.random.default_rng([seed, gradient_step])
            drawn = draw(
                self._index,
                self._layout,
                self._config.batch_size,
                generator,
                is_end_oversampled=self._config.is_end_oversampled,
            )
            if isinstance(drawn, Batch):
                return drawn
            self._drop(drawn)
        held = self._index
        raise BadInput(
            f"wanted sequences of {held.batch_length} rows, but {held.stored_steps} rows in "
            f"{len(held.episodes)} episodes are held and none is long enough or closed; insert "
            "more before sampling. Of a run, restore the segments that its replay has lost"
        )

    def counts(self) -> ReplayCounts:
        """Returns what is held and was ever held; exact after any kill."""
        return ReplayCounts(
            policy_steps=self._totals.policy_steps,
            episodes=self._totals.episodes - self._index.num_open,
            stored_steps=self._index.stored_steps,
            stored_episodes=len(self._index.episodes),
            stored_bytes=sum(segment.end for segment in self._segments),
            short_episodes=self._index.short_episodes,
            last_incarnation=self._totals.last_incarnation,
            repaired_records=self._totals.repaired_records,
            fenced_inserts=self._fenced_inserts,
        )

    def flush(self) -> ReplayPosition:
        """Brings every stored chunk to the disk itself, so that a power cut cannot lose it.

        Returns:
            Where the replay stands, for `rewind`.
        """
        if not self._segments:
            return ReplayPosition(segments=(), end_bytes=0)
        newest = self._segments[-1]
        with explained("flushing the replay", self._directory):
            newest.flush()
        return ReplayPosition(
            segments=tuple(int(segment.path.stem) for segment in self._segments),
            end_bytes=newest.end,
        )

    def release(self, position: ReplayPosition) -> None:
        """Deletes evicted segments that a replay taken back to `position` would not hold."""
        oldest = min(position.segments, default=0)
        with explained("deleting evicted segments", self._directory):
            for path in [path for path in self._evicted if int(path.stem) < oldest]:
                path.unlink(missing_ok=True)
                self._evicted.remove(path)

    def close(self) -> None:
        """Flushes, cuts the newest file to its true length, and lets others open the directory."""
        if self._segments and self._lock.alive:
            with explained("closing the replay", self._directory):
                self._segments[-1].close()
        self._lock()

    def _resume(self, opened: OpenedSegments) -> None:
        """Goes on in the newest segment, or after a repair in a new one that records its count."""
        self._segments, self._totals = opened.segments, opened.totals
        newest = self._segments[-1] if self._segments else None
        if newest is not None:
            os.truncate(newest.path, newest.end)
        if opened.is_repaired:
            self._start_segment()
        elif newest is not None and newest.rows < self._config.segment_steps:
            rows = self._config.segment_steps - newest.rows
            newest.open_for_writing(segment_bytes(self._layout, rows))

    def _segment_for(self, frame: bytes, num_rows: int) -> Segment:
        """Returns the newest segment if it has room, else closes it and starts the next."""
        newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.is_writable:
            is_full = newest.rows > 0 and newest.rows + num_rows > self._config.segment_steps
            if not is_full and newest.has_room(len(frame)):
                return newest
            newest.close()
        return self._start_segment(len(frame))

    def _start_segment(self, least_bytes: int = 0) -> Segment:
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 0
        room = segment_bytes(self._layout, self._config.segment_steps)
        path = self._directory / f"{number:08d}.segment"
        segment = Segment.create(path, self._layout, self._totals, max(room, least_bytes))
        self._segments.append(segment)
        return segment

    def _refuse_stale(self, chunk: EpisodeChunk) -> None:
        """Raises StaleIncarnation for a chunk of a collector that was replaced."""
        fence = max(self._fence, self._totals.last_incarnation or 0)
        if chunk.incarnation < fence:
            self._fenced_inserts += 1
            raise StaleIncarnation(
                f"chunk of incarnation {chunk.incarnation} refused: incarnation {fence} has "
                "taken over; stop the older collector"
            )

    def _evict(self) -> None:
        while self._index.stored_steps > self._config.capacity_steps and len(self._segments) > 1:
            self._evict_oldest_segment()

    def _evict_oldest_segment(self) -> None:
        """Forgets the rows of the oldest file and deletes it, unless it may be gone back to."""
        segment = self._segments[0]
        if self._is_rewindable:
            self._evicted.append(segment.path)
        else:
            with explained("evicting a segment", segment.path):
                segment.path.unlink(missing_ok=True)
        del self._segments[0]
        self._index.forget_oldest(segment.num_records)

    def _drop(self, record: Record) -> None:
        """Forgets a record that is not intact, and cuts it out of its file."""
        next(segment for segment in self._segments if segment.holds(record)).remove(record)
        self._totals = self._totals.after_repairs(1)
        self._index.forget(record)


def open_replay(
    directory: Path,
    config: ReplayConfig,
    spec: EnvSpec,
    *,
    is_rewindable: bool = False,
    target: RewindTarget | None = None,
    is_compressed: bool = True,
) -> Replay:
    """Opens a replay for rows of this environment; see Replay for what it raises."""
    return Replay(
        directory,
        config,
        image_shape=spec.image_shape,
        action_size=spec.action_size,
        vector_size=spec.vector_size,
        is_rewindable=is_rewindable,
        target=target,
        is_compressed=is_compressed,
    )


def _lock(owner: Replay, directory: Path) -> weakref.finalize[[int], Replay]:
    """Locks the directory until the result is called, the owner is gone, or the process ends."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        wait_for_lock(fd, _LOCK_PATIENCE_S)
    except BlockingIOError as error:
        os.close(fd)
        raise ReplayInUse(
            f"{directory} is open in another replay; close that one, or end its process"
        ) from error
    return weakref.finalize(owner, os.close, fd)
