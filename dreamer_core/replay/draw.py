"""Drawing of batches: which sequences, and their rows copied out of the segment files.

DreamerV2, sec. 2.1: an episode uniformly, then

    start = min(uniform{0 .. len - 1}, len - T)

so that ends of episodes are seen often; or, without that, uniform{0 .. len - T}. What the paper
leaves open is decided here:

- An open episode takes part once it has T rows; it is drawn by the rows it has so far.
- A closed episode shorter than T starts at its first row and is continued with the rows of the
  episodes that arrived after it (after the newest comes the oldest again) until T rows are
  filled; `is_first` marks each join. So environments with short episodes work, and no row is
  ever left out.
- Every sequence starts from the zero state: `is_first` is set in its first row, and `prev_action`
  is zero wherever `is_first` is set.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dreamer_core.replay.codec import share
from dreamer_core.replay.format import Record, RowLayout
from dreamer_core.replay.index import Episode, EpisodeIndex
from dreamer_core.types import Batch


def draw(
    index: EpisodeIndex,
    layout: RowLayout,
    num_sequences: int,
    generator: np.random.Generator,
    *,
    is_end_oversampled: bool = True,
) -> Batch | Record:
    """Draws a batch [B, T]; T is the index's `batch_length`.

    Args:
        index: holds T rows or more, and an episode that is eligible.
        layout: of every row.
        num_sequences: B.
        generator: all that the draw depends on besides the content.
        is_end_oversampled: see ReplayConfig.

    Returns:
        The batch in new arrays, or the first record come upon that is not intact.
    """
    episodes = index.episodes
    places = pick(index, num_sequences, generator, is_end_oversampled=is_end_oversampled)
    buffers = _BatchBuffers(layout, num_sequences, index.batch_length)
    for b, (number, start) in enumerate(places):
        damaged = _fill(buffers, b, episodes, number, start)
        if damaged is not None:
            return damaged
    return buffers.finish()


def pick(
    index: EpisodeIndex,
    num_sequences: int,
    generator: np.random.Generator,
    *,
    is_end_oversampled: bool = True,
) -> list[tuple[int, int]]:
    """Draws where each sequence begins: the number of an episode, and a row of it."""
    episodes = index.episodes
    numbers: list[int] = generator.integers(0, index.num_eligible, num_sequences).tolist()
    rows = np.array([episodes[number].rows for number in numbers])
    latest = np.maximum(0, rows - index.batch_length)
    ends = rows if is_end_oversampled else latest + 1
    starts = np.minimum(generator.integers(0, ends), latest)
    return list(zip(numbers, starts.tolist(), strict=True))


class _Piece(NamedTuple):
    """Consecutive rows of a record, and their flat place in the batch."""

    row: int
    num_rows: int
    at: int


class _BatchBuffers:
    """A batch being filled; the flat place of a row is b * T + t."""

    def __init__(self, layout: RowLayout, num_sequences: int, length: int) -> None:
        shape = (num_sequences, length)
        self._layout = layout
        self.length = length
        self._pieces: dict[Record, list[_Piece]] = {}  # by record, so that each is decoded once
        self.image = np.empty((*shape, *layout.image_shape), np.uint8)
        self.prev_action = np.empty((*shape, layout.action_size), np.float32)
        self.reward = np.empty(shape, np.float32)
        self.vector = np.empty((*shape, layout.vector_size), np.float32)
        self.is_first = np.zeros(shape, np.bool_)
        self.is_terminal = np.zeros(shape, np.bool_)
        columns = (  # in the order of the payload
            (self.image, layout.image_bytes),
            (self.prev_action, layout.prev_action_bytes),
            (self.reward, 4),
            (self.vector, layout.vector_bytes),
        )
        self._columns = [(x.reshape(-1).view(np.uint8), size) for x, size in columns if size]

    def take(self, record: Record, row: int, num_rows: int, at: int) -> None:
        """Notes rows of a record and their flat place in the batch; they are copied last."""
        self._pieces.setdefault(record, []).append(_Piece(row, num_rows, at))

    def _copy(self, records: Sequence[Record]) -> None:
        for record in records:
            stored = np.frombuffer(record.columns(), np.uint8)
            for row, num_rows, at in self._pieces[record]:
                column_at = 0
                for target, size in self._columns:
                    source = column_at + row * size
                    rows = stored[source : source + num_rows * size]
                    target[at * size : (at + num_rows) * size] = rows
                    column_at += record.rows * size

    def finish(self) -> Batch:
        """Copies the rows, zeroes the action at each start (the chart), and hands the batch on."""
        records = list(self._pieces)
        if any(record.is_compressed for record in records):
            share(self._copy, records)
        else:
            self._copy(records)
        self.prev_action[self.is_first] = 0
        return Batch(
            image=self.image,
            prev_action=self.prev_action,
            reward=self.reward,
            is_first=self.is_first,
            is_terminal=self.is_terminal,
            vector=self.vector if self._layout.vector_size else None,
        )


def _fill(
    buffers: _BatchBuffers, b: int, episodes: Sequence[Episode], number: int, start: int
) -> Record | None:
    """Fills sequence b from row `start` of an episode, going on with the ones after it.

    Returns:
        A record it came upon that is not intact, else None.
    """
    length, filled = buffers.length, 0
    while filled < length:
        episode = episodes[number]
        buffers.is_first[b, filled] = True
        step = episode.first_steps[0] + start
        stop = min(episode.end, step + length - filled)
        position = bisect_right(episode.first_steps, step) - 1
        while step < stop:
            record = episode.records[position]
            if not (record.is_checked or record.is_intact()):
                return record
            num_rows = min(stop, record.first_step + record.rows) - step
            buffers.take(record, step - record.first_step, num_rows, b * length + filled)
            step, filled, position = step + num_rows, filled + num_rows, position + 1
        buffers.is_terminal[b, filled - 1] = episode.is_terminal and step == episode.end
        number, start = (number + 1) % len(episodes), 0
    return None
