"""Rows of a counting environment, and the replays and segment files that hold them.

The image of row t of episode e is filled with t, the reward is 1000 * e + t, the action is (e, t)
with zeros at t = 0. So any misalignment shows.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dreamer_core.config import ReplayConfig
from dreamer_core.replay.format import (
    RECORD_MAGIC,
    Record,
    RowLayout,
    encode_chunk,
    read_file_header,
    read_frame,
)
from dreamer_core.replay.replay import Replay
from dreamer_core.replay.survey import map_file, scan
from dreamer_core.types import Batch, EpisodeChunk

SHAPE = (2, 2, 1)
LAYOUT = RowLayout(SHAPE, 2)
VECTOR = RowLayout(SHAPE, 2, 3)
"""With a vector besides."""
CONFIG = ReplayConfig(capacity_steps=100_000, batch_size=50, batch_length=10, segment_steps=40)


def open_replay(
    directory: Path, config: ReplayConfig = CONFIG, layout: RowLayout = LAYOUT
) -> Replay:
    sizes = {"action_size": layout.action_size, "vector_size": layout.vector_size}
    return Replay(directory, config, image_shape=layout.image_shape, **sizes)


def rows_of(episode, first_step, rows, *, end=None, incarnation=0) -> EpisodeChunk:
    """A chunk of the counting environment; `end` is None, "limit" or "terminal"."""
    steps = np.arange(first_step, first_step + rows)
    is_last = (steps == steps[-1]) & (end is not None)
    action = np.stack([np.full(rows, episode), steps], axis=1).astype(np.float32)
    return EpisodeChunk(
        incarnation=incarnation,
        episode=episode,
        first_step=first_step,
        image=np.broadcast_to(steps[:, None, None, None], (rows, *SHAPE)).astype(np.uint8),
        prev_action=action * (steps > 0)[:, None].astype(np.float32),
        reward=(1000 * episode + steps).astype(np.float32),
        is_first=steps == 0,
        is_last=is_last,
        is_terminal=is_last & (end == "terminal"),
    )


def chunks_of(episode, rows, *, chunk=7, end="terminal", incarnation=0) -> list[EpisodeChunk]:
    """An episode in chunks; `end` is that of its last row."""
    return [
        rows_of(
            episode,
            start,
            min(chunk, rows - start),
            end=end if start + chunk >= rows else None,
            incarnation=incarnation,
        )
        for start in range(0, rows, chunk)
    ]


def insert_episode(replay, episode, rows, **options):
    for piece in chunks_of(episode, rows, **options):
        assert replay.insert(piece)


def record_of(chunk: EpisodeChunk) -> Record:
    """A chunk as a record in memory, whose payload nobody has looked at yet."""
    data = memoryview(bytearray(encode_chunk(chunk, LAYOUT)))
    frame = read_frame(data, 0, RECORD_MAGIC)
    return Record(
        **frame.header,
        data=data,
        start=0,
        payload_at=frame.payload_at,
        end=frame.end,
        is_checked=False,
    )


def places_of(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Episode and step of each row [B, T], read from the reward."""
    reward = batch.reward.astype(int)
    return reward // 1000, reward % 1000


def draw_many(replay: Replay, draws: int) -> tuple[np.ndarray, np.ndarray]:
    batches = [places_of(replay.sample(step, seed=3)) for step in range(draws)]
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def segments_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


def fill(directory: Path, episodes: int = 4, rows: int = 28, chunk: int = 7) -> list[Path]:
    """Writes whole episodes and returns the segments; CONFIG puts 40 rows into each."""
    replay = open_replay(directory)
    for episode in range(episodes):
        insert_episode(replay, episode, rows, chunk=chunk)
    replay.close()
    return segments_in(directory)


@contextmanager
def format_1():
    """Segments are written as before records were compressed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dreamer_core.replay.format.FORMAT_VERSION", 1)
        patch.setattr("dreamer_core.replay.format.compress", lambda _: None)
        yield


def records_of(path: Path):
    data = map_file(path)
    return scan(data, read_file_header(data), is_payload_checked=True).records


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
