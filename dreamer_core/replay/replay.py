"""Replay: chunks of episodes in, [B, T] sequences out; every acknowledged chunk is on disk.

Rows lie in segment files (segments.py) and are read through the page cache; memory holds only
where each chunk lies. Sequences are drawn as DreamerV2, sec. 2.1 says: an episode uniformly, then

    start = min(uniform{0 .. len - 1}, len - T)

so that ends of episodes are seen often. What the paper leaves open is decided here:

- An open episode takes part once it has T rows; it is drawn by the rows it has so far.
- A closed episode shorter than T starts at its first row and is continued with the rows of the
  episodes that arrived after it (after the newest comes the oldest again) until T rows are
  filled; `is_first` marks each join. So environments with short episodes work, and no row is
  ever left out.
- A new episode closes the one before it: if that had no `is_last`, it was cut short (prefill
  ended, or the collector died), which is an end by limit and not terminal. No sequence runs
  across a join without `is_first`.
- An episode that lost its head to eviction, or a part to damage, is drawn by the rows it has
  left in one piece, as an episode of its own.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dreamer_core.config import ReplayConfig
from dreamer_core.replay.rewind import ReplayPosition, RewindTarget, rewind
from dreamer_core.replay.segments import (
    Layout,
    OpenedSegments,
    Record,
    Segment,
    encode_chunk,
    explained,
    open_segments,
    segment_bytes,
)
from dreamer_core.types import Batch, EnvSpec, EpisodeChunk

_LOCK_PATIENCE_S = 15.0  # a replay server that was killed while it was frozen lives on for a moment


class StaleIncarnation(RuntimeError):
    """The chunk comes from a collector that was replaced; its successor has already written."""


class ReplayInUse(RuntimeError):
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


@dataclass(slots=True)
class _Episode:
    """The rows of one episode that are held, without gaps."""

    key: tuple[int, int]
    """(incarnation, episode)."""
    records: list[Record]
    first_steps: list[int]
    """Of each record, for bisecting."""
    end: int
    """Step after the newest row."""
    is_closed: bool
    is_terminal: bool

    @property
    def rows(self) -> int:
        return self.end - self.first_steps[0]


class _BatchBuffers:
    """A batch being filled, row by flat index b * T + t."""

    def __init__(self, layout: Layout, num_sequences: int, length: int) -> None:
        shape = (num_sequences, length)
        self._layout = layout
        self.image = np.empty((*shape, *layout.image_shape), np.uint8)
        self.prev_action = np.empty((*shape, layout.action_size), np.float32)
        self.reward = np.empty(shape, np.float32)
        self.is_first = np.zeros(shape, np.bool_)
        self.is_terminal = np.zeros(shape, np.bool_)
        self._image_bytes = self.image.data.cast("B")
        self._prev_action_bytes = self.prev_action.data.cast("B")
        self._reward_bytes = self.reward.data.cast("B")

    def copy(self, record: Record, row: int, num_rows: int, at: int) -> None:
        """Copies rows of a record to the flat rows from `at` on."""
        column_at = record.payload_at
        for target, size in (
            (self._image_bytes, self._layout.image_bytes),
            (self._prev_action_bytes, self._layout.prev_action_bytes),
            (self._reward_bytes, 4),
        ):
            source = column_at + row * size
            target[at * size : (at + num_rows) * size] = record.data[
                source : source + num_rows * size
            ]
            column_at += record.rows * size

    def finish(self) -> Batch:
        """Zeroes the action at each start (the alignment chart) and hands the batch on."""
        self.prev_action[self.is_first] = 0
        return Batch(
            image=self.image,
            prev_action=self.prev_action,
            reward=self.reward,
            is_first=self.is_first,
            is_terminal=self.is_terminal,
        )


class Replay:
    """Stores chunks durably and draws batches. One process and one thread at a time.

    Args:
        directory: made if missing; holds segment files only.
        config: capacity, segment size, B and T. May differ from one opening to the next.
        image_shape: [H, W, channels] of every row.
        action_size: A.
        is_rewindable: evicted segments stay on disk until `release`, so that the replay can be
            taken back to the position of the newest checkpoint (rewind.py).
        target: where to go back to before opening, if that loses nothing.

    Raises:
        ValueError: the directory holds rows of another shape; nothing was changed.
        ReplayInUse: the directory is open elsewhere.
    """

    def __init__(
        self,
        directory: Path,
        config: ReplayConfig,
        *,
        image_shape: tuple[int, ...],
        action_size: int,
        is_rewindable: bool = False,
        target: RewindTarget | None = None,
    ) -> None:
        self._directory = directory
        self._is_rewindable = is_rewindable
        self._evicted: list[Path] = []
        self._fence = 0
        self._fenced_inserts = 0
        self._config = config
        self._layout = Layout(tuple(image_shape), action_size)
        with explained("opening the replay", directory):
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
        self._episodes: list[_Episode] = []
        self._newest_by_key: dict[tuple[int, int], _Episode] = {}
        self._stored_steps = 0
        self._short_episodes = 0
        for record in opened.records:
            self._index(record)
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
            OSError: it could not be written; nothing changed and it may be inserted again.
        """
        if not self._lock.alive:
            raise ValueError(f"the replay in {self._directory} was closed; open it again")
        _check_columns(chunk, self._layout)
        _check_flags(chunk)
        if self._is_duplicate(chunk):
            return False
        with explained("storing a chunk", self._directory):
            frame = encode_chunk(chunk, self._layout)
            segment = self._segment_for(frame, len(chunk))
            record = segment.append(frame)
        self._totals = self._totals.after(record)
        self._index(record)
        self._evict()
        return True

    def fence(self, incarnation: int) -> None:
        """Refuses from now on what collectors before this incarnation may still send."""
        self._fence = max(self._fence, incarnation)

    def can_sample(self) -> bool:
        """Whether an episode is eligible and T rows are held in all."""
        enough = self._stored_steps >= self._config.batch_length
        return enough and self._num_eligible() > 0

    def sample(self, gradient_step: int, seed: int) -> Batch:
        """Draws B sequences of T rows (DreamerV2, sec. 2.1; this module's docstring).

        The draw depends on the content, `seed` and `gradient_step` alone, so that a resumed run
        needs no generator state. The arrays are new in each call.

        Raises:
            ValueError: `can_sample` is false.
        """
        while self.can_sample():
            drawn = self._draw(gradient_step, seed)
            if isinstance(drawn, Batch):
                return drawn
            self._drop(drawn)
        raise ValueError(
            f"wanted sequences of {self._config.batch_length} rows, but "
            f"{self._stored_steps} rows in {len(self._episodes)} episodes are held and none "
            "is long enough or closed; insert more before sampling"
        )

    def counts(self) -> ReplayCounts:
        """Returns what is held and was ever held; exact after any kill."""
        num_open = int(bool(self._episodes) and not self._episodes[-1].is_closed)
        return ReplayCounts(
            policy_steps=self._totals.policy_steps,
            episodes=self._totals.episodes - num_open,
            stored_steps=self._stored_steps,
            stored_episodes=len(self._episodes),
            stored_bytes=sum(segment.end for segment in self._segments),
            short_episodes=self._short_episodes,
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

    def _is_duplicate(self, chunk: EpisodeChunk) -> bool:
        """Whether the rows are stored already.

        Raises:
            StaleIncarnation, ValueError: they are not, and cannot be stored either.
        """
        fence = max(self._fence, self._totals.last_incarnation or 0)
        if chunk.incarnation < fence:
            self._fenced_inserts += 1
            raise StaleIncarnation(
                f"chunk of incarnation {chunk.incarnation} refused: incarnation {fence} has "
                "taken over; stop the older collector"
            )
        key = (chunk.incarnation, chunk.episode)
        name = f"episode {chunk.episode} of incarnation {chunk.incarnation}"
        known = self._newest_by_key.get(key)
        end = 0 if known is None else known.end
        if chunk.first_step + len(chunk) <= end:
            return True
        if chunk.first_step != end:
            raise ValueError(
                f"{name} has {end} rows, so the next chunk must begin at step {end}, but came "
                f"with first_step={chunk.first_step}; send the chunks in order, or begin a new "
                "episode"
            )
        newest = self._episodes[-1] if self._episodes else None
        if (known is not None and known.is_closed) or (newest is not None and key < newest.key):
            raise ValueError(f"{name} has ended and takes no more rows; begin a new episode")
        return False

    def _index(self, record: Record) -> None:
        """Adds a record to the newest episode, or closes that and begins another."""
        key = (record.incarnation, record.episode)
        newest = self._episodes[-1] if self._episodes else None
        is_next = newest is not None and newest.key == key and newest.end == record.first_step
        if newest is None or not is_next or newest.is_closed:
            if newest is not None and not newest.is_closed:
                newest.is_closed = True
                self._short_episodes += self._is_short(newest)
            newest = _Episode(key, [], [], record.first_step, is_closed=False, is_terminal=False)
            self._episodes.append(newest)
            self._newest_by_key[key] = newest
        newest.records.append(record)
        newest.first_steps.append(record.first_step)
        newest.end += record.rows
        newest.is_closed, newest.is_terminal = record.is_last, record.is_terminal
        self._short_episodes += self._is_short(newest)
        self._stored_steps += record.rows

    def _is_short(self, episode: _Episode) -> bool:
        return episode.is_closed and episode.rows < self._config.batch_length

    def _evict(self) -> None:
        while self._stored_steps > self._config.capacity_steps and len(self._segments) > 1:
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
        self._stored_steps -= segment.rows
        num_records, num_emptied = segment.num_records, 0
        while num_records:
            episode = self._episodes[num_emptied]
            num_gone = min(num_records, len(episode.records))
            num_records -= num_gone
            self._short_episodes -= self._is_short(episode)
            del episode.records[:num_gone], episode.first_steps[:num_gone]
            if episode.records:
                self._short_episodes += self._is_short(episode)
                continue
            num_emptied += 1
            if self._newest_by_key.get(episode.key) is episode:
                del self._newest_by_key[episode.key]
        del self._episodes[:num_emptied]

    def _num_eligible(self) -> int:
        """Every episode but an open one that is shorter than T; only the newest can be open."""
        if not self._episodes:
            return 0
        newest = self._episodes[-1]
        is_eligible = newest.is_closed or newest.rows >= self._config.batch_length
        return len(self._episodes) - (not is_eligible)

    def _draw(self, gradient_step: int, seed: int) -> Batch | Record:
        """Returns the batch, or a record of it that is not intact."""
        num_sequences, length = self._config.batch_size, self._config.batch_length
        generator = np.random.default_rng([seed, gradient_step])
        picks: list[int] = generator.integers(0, self._num_eligible(), num_sequences).tolist()
        rows = [self._episodes[pick].rows for pick in picks]
        draws: list[int] = generator.integers(0, rows).tolist()
        buffers = _BatchBuffers(self._layout, num_sequences, length)
        for b, pick in enumerate(picks):
            start = max(0, min(draws[b], rows[b] - length))
            damaged = self._fill(buffers, b, pick, start)
            if damaged is not None:
                return damaged
        return buffers.finish()

    def _drop(self, record: Record) -> None:
        """Forgets a record that is not intact; the rows around it become episodes of their own."""
        next(segment for segment in self._segments if segment.holds(record)).remove(record)
        self._totals = self._totals.after_repairs(1)
        self._stored_steps -= record.rows
        index = next(i for i, episode in enumerate(self._episodes) if record in episode.records)
        whole = self._episodes[index]
        at = whole.records.index(record)
        head = replace(
            whole,
            records=whole.records[:at],
            first_steps=whole.first_steps[:at],
            end=record.first_step,
            is_closed=True,
            is_terminal=False,
        )
        rest = replace(
            whole, records=whole.records[at + 1 :], first_steps=whole.first_steps[at + 1 :]
        )
        pieces = [piece for piece in (head, rest) if piece.records]
        self._episodes[index : index + 1] = pieces
        self._short_episodes += sum(map(self._is_short, pieces)) - self._is_short(whole)
        if self._newest_by_key.get(whole.key) is whole:
            del self._newest_by_key[whole.key]
            self._newest_by_key.update((piece.key, piece) for piece in pieces)

    def _fill(self, buffers: _BatchBuffers, b: int, pick: int, start: int) -> Record | None:
        """Fills sequence b from row `start` of an episode, going on with the ones after it.

        Returns:
            A record it came upon that is not intact, else None.
        """
        length, filled = self._config.batch_length, 0
        while filled < length:
            episode = self._episodes[pick]
            buffers.is_first[b, filled] = True
            step = episode.first_steps[0] + start
            stop = min(episode.end, step + length - filled)
            position = bisect_right(episode.first_steps, step) - 1
            while step < stop:
                record = episode.records[position]
                if not (record.is_checked or record.is_intact()):
                    return record
                num_rows = min(stop, record.first_step + record.rows) - step
                buffers.copy(record, step - record.first_step, num_rows, b * length + filled)
                step, filled, position = step + num_rows, filled + num_rows, position + 1
            buffers.is_terminal[b, filled - 1] = episode.is_terminal and step == episode.end
            pick, start = (pick + 1) % len(self._episodes), 0
        return None


def open_replay(
    directory: Path,
    config: ReplayConfig,
    spec: EnvSpec,
    *,
    is_rewindable: bool = False,
    target: RewindTarget | None = None,
) -> Replay:
    """Opens a replay for rows of this environment; see Replay for what it raises."""
    return Replay(
        directory,
        config,
        image_shape=spec.image_shape,
        action_size=spec.action_size,
        is_rewindable=is_rewindable,
        target=target,
    )


def _lock(owner: Replay, directory: Path) -> weakref.finalize[[int], Replay]:
    """Locks the directory until the result is called, the owner is gone, or the process ends."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    give_up_s = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > give_up_s:
                os.close(fd)
                raise ReplayInUse(
                    f"{directory} is open in another replay; close that one, or end its process"
                ) from error
            time.sleep(0.1)
    return weakref.finalize(owner, os.close, fd)


def _check_columns(chunk: EpisodeChunk, layout: Layout) -> None:
    """Raises ValueError or TypeError for a column of another shape or dtype, or not finite."""
    if len(chunk) == 0:
        raise ValueError("the chunk has no rows; send at least one")
    for name, (dtype, row_shape) in layout.columns.items():
        column: np.ndarray = getattr(chunk, name)
        if column.dtype != np.dtype(dtype):
            raise TypeError(f"{name} must be {np.dtype(dtype)}, got {column.dtype}; convert it")
        if column.shape != (len(chunk), *row_shape):
            raise ValueError(f"{name} must be {(len(chunk), *row_shape)}, got {column.shape}")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise ValueError(f"{name} holds values that are not finite; mend the environment")


def _check_flags(chunk: EpisodeChunk) -> None:
    """Raises ValueError if the flags break the alignment chart of types.py."""
    if min(chunk.incarnation, chunk.episode, chunk.first_step) < 0:
        raise ValueError("incarnation, episode and first_step must be 0 or more")
    is_begin = chunk.first_step == 0
    if bool(chunk.is_first[0]) != is_begin or chunk.is_first[1:].any():
        raise ValueError(
            f"is_first must be true in row 0 of an episode and nowhere else, but first_step="
            f"{chunk.first_step} came with is_first at rows {np.flatnonzero(chunk.is_first)}"
        )
    if chunk.is_last[:-1].any():
        raise ValueError("is_last must be true in the last row only; begin a new chunk after it")
    if (chunk.is_terminal & ~chunk.is_last).any():
        raise ValueError("is_terminal without is_last: a task that has ended cannot go on")
