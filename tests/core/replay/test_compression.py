"""Records are compressed without loss where that makes them smaller; older files go on."""

from dataclasses import fields, replace

import numpy as np
import pytest
import zstandard

from dreamer_core.config import EnvConfig, ReplayConfig
from dreamer_core.envs.suites import opened
from dreamer_core.replay import codec
from dreamer_core.replay.format import decode_chunk
from dreamer_core.replay.reader import Damage, ReplayFiles
from dreamer_core.replay.replay import Replay
from dreamer_core.replay.rewind import RewindTarget
from dreamer_core.types import Batch
from tests.core.replay.counting import (
    CONFIG,
    LAYOUT,
    SHAPE,
    flip,
    format_1,
    insert_episode,
    open_replay,
    records_of,
    rows_of,
    segments_in,
)

GAME = ReplayConfig(batch_size=8, batch_length=20)
ROWS = 64


@pytest.fixture(scope="module")
def game():
    """Images of a minute of Krull, the game that was found to compress least, and noise."""
    rng = np.random.default_rng(0)
    images = []
    with opened(EnvConfig(suite="atari", task="krull", is_grayscale=True), seed=0) as env:
        step = env.reset()
        while len(images) < 4 * ROWS:
            images.append(step.image)
            step = env.step(np.eye(env.spec.action_size, dtype=np.float32)[rng.integers(6)])
    return np.stack(images)


def chunks_with(images):
    """An episode of these images; see counting.py for the other columns."""
    return [
        replace(rows_of(0, at, ROWS), image=images[at : at + ROWS])
        for at in range(0, len(images), ROWS)
    ]


def stored(directory, chunks, **options):
    replay = Replay(
        directory, GAME, image_shape=chunks[0].image.shape[1:], action_size=2, **options
    )
    for chunk in chunks:
        assert replay.insert(chunk) and not replay.insert(chunk)
    return replay


def assert_same(one, other, kind=Batch):
    for field in fields(kind):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is b is None) or np.array_equal(a, b)


def test_images_of_a_game_take_less_than_250_bytes_a_row_and_come_back_bit_for_bit(tmp_path, game):
    chunks = chunks_with(game)
    replay = stored(tmp_path, chunks)
    assert replay.counts().stored_bytes < 250 * len(game)
    replay.close()
    files = ReplayFiles(tmp_path)
    for record, chunk in zip(files.records, chunks, strict=True):
        assert record.is_compressed
        assert_same(decode_chunk(record, files.layout), chunk, type(chunk))


def test_what_does_not_become_smaller_is_stored_as_it_is(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2 * ROWS, 64, 64, 1), np.uint8)
    replay = stored(tmp_path, chunks_with(noise))
    records = replay._index.episodes[0].records
    assert not any(record.is_compressed for record in records)
    row_bytes = replay._layout.row_bytes
    assert all(len(record.columns()) == ROWS * row_bytes for record in records)
    assert replay.counts().stored_bytes < 2 * ROWS * row_bytes + 1000


@pytest.mark.parametrize("threads", [1, 4])
def test_compressed_or_not_and_by_however_many_threads_the_same_batch_is_drawn(
    tmp_path, game, threads, monkeypatch
):
    monkeypatch.setattr(codec, "_MAX_THREADS", threads)
    noise = np.random.default_rng(0).integers(0, 256, game.shape, np.uint8)
    mixed = chunks_with(np.concatenate([game[:ROWS], noise[:ROWS], game[ROWS:]]))
    small, large = (
        stored(tmp_path / str(is_compressed), mixed, is_compressed=is_compressed)
        for is_compressed in (True, False)
    )
    for step in range(3):
        assert_same(small.sample(step, seed=0), large.sample(step, seed=0))
    assert small.counts().stored_bytes < large.counts().stored_bytes / 3


def test_a_damaged_byte_of_a_compressed_record_is_named_and_costs_that_record(tmp_path, game):
    stored(tmp_path, chunks_with(game)).close()
    path, record = segments_in(tmp_path)[0], records_of(segments_in(tmp_path)[0])[1]
    flip(path, (record.payload_at + record.end) // 2)
    files = ReplayFiles(tmp_path)
    assert [(each.start, each.end) for each in files.damage()] == [(record.start, record.end)]
    assert not any(isinstance(found, Damage) for found in files.verify())
    assert len(files.records) == len(game) // ROWS - 1


def frame_of(payload, **options):
    return zstandard.ZstdCompressor(**options).compress(payload)


ROOM = 5 * LAYOUT.row_bytes
LIES = {
    "too few rows": frame_of(bytes(ROOM - 1)),
    "more rows": frame_of(bytes(100 * ROOM)),
    "more rows than memory": frame_of(b"")[:4] + b"\xe0" + (2**60).to_bytes(8, "little") + b"\1",
    "no size": frame_of(bytes(ROOM), write_content_size=False),
    "no frame": b"x" * 50,
    "nothing": b"",
    "half a frame": frame_of(np.random.default_rng(0).bytes(ROOM))[:-20],
}


HELD = {*rows_of(0, 0, 30).reward, *rows_of(1, 0, 28).reward}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("is_newest", [True, False])
def test_a_frame_that_lies_under_a_right_checksum_is_damage_and_never_drawn(
    tmp_path, monkeypatch, lie, is_newest
):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 30))
    with monkeypatch.context() as patch:
        patch.setattr("dreamer_core.replay.format.compress", lambda _: LIES[lie])
        replay.insert(rows_of(0, 30, 5))
    insert_episode(replay, 1, rows=5 if is_newest else 28)
    replay.close()
    files = ReplayFiles(tmp_path)
    found = files.damage() + [each for each in files.verify() if isinstance(each, Damage)]
    assert len(found) == 1
    replay = open_replay(tmp_path)
    for step in range(5):
        assert set(replay.sample(step, seed=0).reward.ravel()) <= HELD
    counts = replay.counts()
    assert (counts.repaired_records, counts.stored_steps) == (1, 35 if is_newest else 58)


def test_a_directory_of_format_1_is_read_sampled_appended_to_and_taken_back(tmp_path):
    with format_1():
        old = open_replay(tmp_path / "old")
        insert_episode(old, 0, rows=28)
        old.insert(rows_of(1, 0, 7))
        position, drawn = old.flush(), old.sample(0, seed=0)
        old.close()
    before = segments_in(tmp_path / "old")[0].read_bytes()
    replay = open_replay(tmp_path / "old")
    assert_same(replay.sample(0, seed=0), drawn)
    insert_episode(replay, 2, rows=70)
    after = replay.sample(0, seed=0)
    replay.close()
    assert segments_in(tmp_path / "old")[0].read_bytes().startswith(before)
    kinds = [record.is_compressed for record in ReplayFiles(tmp_path / "old").records]
    assert kinds == [False] * 5 + [True] * 10
    again = open_replay(tmp_path / "old")
    assert_same(again.sample(0, seed=0), after)
    again.close()
    target = RewindTarget(position=position, incarnation=0)
    back = Replay(tmp_path / "old", CONFIG, image_shape=SHAPE, action_size=2, target=target)
    assert back.is_rewound and back.counts().stored_steps == 35
    assert_same(back.sample(0, seed=0), drawn)
