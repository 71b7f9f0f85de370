"""Batches from replay directories that another run wrote, or still writes: never changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dreamer_core.config import ReplayConfig
from dreamer_core.errors import BadInput, Failed
from dreamer_core.replay.draw import draw
from dreamer_core.replay.format import RECORD_MAGIC, Record, RowLayout, read_frame
from dreamer_core.replay.index import EpisodeIndex
from dreamer_core.replay.reader import Damage, ReplayFiles
from dreamer_core.types import Batch

logger = logging.getLogger(__name__)


class FixedReplay:
    """The rows of replay directories as they were at one moment.

    Every byte is read once at the beginning: what is damaged is left out then, with a warning, so
    that what is drawn depends on the rows, the seed and the gradient step alone. `capacity_steps`
    does not count here.

    Args:
        directories: of segments; their rows follow each other in this order.
        config: B, T and how starts are drawn.
        rows: whole rows to take of each directory, the oldest first; None for all.

    Raises:
        BadInput: a directory holds no rows, too few, or others than the one before; or too few for
            a sequence.
    """

    def __init__(
        self, directories: Sequence[Path], config: ReplayConfig, rows: Sequence[int] | None = None
    ) -> None:
        opened = [ReplayFiles(directory) for directory in directories]
        self._config = config
        self._index = EpisodeIndex(config.batch_length)
        self._ends = {each.path: each.bytes for files in opened for each in files.segments()}
        self.layout = _layout_of(opened)
        """Of every row."""
        digest, taken = hashlib.sha256(), list[int]()
        for number, files in enumerate(opened):
            records = _records(files, None if rows is None else rows[number])
            newest = self._index.newest
            first = 0 if newest is None else newest.key[0] + 1
            for record in records:
                digest.update(_identity(record))
                record.incarnation += first  # so that no two directories share an episode
                self._index.add(record)
            taken.append(sum(record.rows for record in records))
        self.rows = tuple(taken)
        """Of each directory."""
        self.fingerprint = digest.hexdigest()[:16]
        """Of all rows in their order, without where they lie."""
        self._require_enough(directories)

    @property
    def num_rows(self) -> int:
        """Rows in all."""
        return self._index.stored_steps

    @property
    def num_episodes(self) -> int:
        """Episodes, those that lack their beginning or end included."""
        return len(self._index.episodes)

    @property
    def num_short_episodes(self) -> int:
        """Episodes of fewer than T rows: sequences from them go on with the next."""
        return self._index.short_episodes

    @property
    def num_bytes(self) -> int:
        """Size of the segments."""
        return sum(self._ends.values())

    def sample(self, gradient_step: int, seed: int) -> Batch:
        """Draws B sequences of T rows as `Replay.sample` does, in new arrays.

        Raises:
            Failed: the files were cut or damaged since they were opened.
        """
        try:
            drawn = draw(
                self._index,
                self.layout,
                self._config.batch_size,
                np.random.default_rng([seed, gradient_step]),
                is_end_oversampled=self._config.is_end_oversampled,
            )
        except Exception:
            self._require_whole()
            raise
        assert isinstance(drawn, Batch)  # every record was checked
        return drawn

    def _require_enough(self, directories: Sequence[Path]) -> None:
        length = self._index.batch_length
        if self._index.num_eligible == 0 or self.num_rows < length:
            raise BadInput(
                f"Wanted sequences of {length} rows, but {', '.join(map(str, directories))} "
                f"hold {self.num_rows} rows in {self.num_episodes} episodes, none of them long "
                "enough or closed; name more with --replay, or lower --replay.batch-length"
            )

    def _require_whole(self) -> None:
        """Raises Failed if a file is shorter than it was; one that was deleted is still read."""
        for path, end in self._ends.items():
            if path.exists() and path.stat().st_size < end:
                raise Failed(
                    f"{path} was cut since it was opened: its run was resumed from an earlier "
                    "checkpoint. Let that run go on, then resume this one with the same command"
                )


def _layout_of(opened: Sequence[ReplayFiles]) -> RowLayout:
    """The layout of all rows; raises BadInput where they differ, or no file is whole."""
    layout = opened[0].layout
    for files in opened:
        if layout is None or files.layout != layout:
            raise BadInput(
                f"Wanted rows of one kind, but {files.directory} holds rows of {files.layout}, and "
                f"{opened[0].directory} those of {layout}; name whole replays of one environment"
            )
    assert layout is not None
    return layout


def _records(files: ReplayFiles, rows: int | None) -> list[Record]:
    """Returns the oldest whole records, as many as hold these rows."""
    found: list[Record] = []
    damaged: list[Damage] = []
    count = 0
    for each in files.verify():
        if rows is not None and count >= rows:
            break
        if isinstance(each, Damage):
            damaged.append(each)
        else:
            found.append(each)
            count += each.rows
    known = files.damage()
    damaged = [*(known[:-1] if files.is_tail_torn else known), *damaged]  # a tail is being written
    for each in damaged[:3]:
        logger.warning(
            "Left out as damaged: %s, bytes %d to %d: %s",
            *(each.path, each.start, each.end, each.reason),
        )
    if len(damaged) > 3:
        logger.warning("... and %d more of %s", len(damaged) - 3, files.directory)
    if rows is not None and count != rows:
        raise BadInput(
            f"Wanted the {rows:,} rows of {files.directory} that this run began with, but it "
            f"holds {count:,} of them: they were evicted, deleted or damaged. Restore its files, "
            "or begin a new run with --run-dir"
        )
    return found


def _identity(record: Record) -> bytes:
    """What tells a record from others: its place in its episode, its end, and its checksum."""
    checksum = read_frame(record.data, record.start, RECORD_MAGIC).checksum
    facts = (*record.place, record.rows, record.is_last, record.is_terminal, checksum)
    return f"{facts}\n".encode()
