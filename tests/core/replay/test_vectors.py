"""Vectors in the replay: a column of their own, where the environment has one."""

from dataclasses import replace

import numpy as np
import pytest

from dreamer_core.config import ReplayConfig
from dreamer_core.errors import BadInput
from dreamer_core.replay.format import RowLayout, decode_chunk, encode_file_header
from dreamer_core.replay.reader import ReplayFiles
from dreamer_core.replay.replay import Replay
from tests.core.replay.counting import (
    CONFIG,
    LAYOUT,
    VECTOR,
    chunks_of,
    open_replay,
    places_of,
)


def with_vectors(chunk):
    """Row t of episode e has the vector (e, t, e + t)."""
    step = chunk.first_step + np.arange(len(chunk))
    vector = np.stack([np.full(len(chunk), chunk.episode), step, chunk.episode + step], 1)
    return replace(chunk, vector=vector.astype(np.float32))


def filled(directory, layout=VECTOR):
    replay = open_replay(directory, layout=layout)
    for episode, rows in enumerate((12, 25, 4)):
        for chunk in chunks_of(episode, rows):
            replay.insert(with_vectors(chunk) if layout.vector_size else chunk)
    return replay


def test_drawn_rows_have_the_vector_of_their_place(tmp_path):
    replay = filled(tmp_path)
    for again in (replay, None):
        if again is None:
            replay.close()
            replay = open_replay(tmp_path, layout=VECTOR)
        batch = replay.sample(0, 0)
        episode, step = places_of(batch)
        assert (batch.vector == np.stack([episode, step, episode + step], -1)).all()


def test_without_a_vector_files_and_batches_are_as_ever(tmp_path):
    assert filled(tmp_path, LAYOUT).sample(0, 0).vector is None
    assert "vector" not in LAYOUT.columns
    assert b"vector" not in encode_file_header(LAYOUT, open_replay(tmp_path / "b")._totals)
    assert b"vector" in encode_file_header(VECTOR, open_replay(tmp_path / "c")._totals)


def test_rows_with_other_vectors_are_refused_and_left_as_they_are(tmp_path):
    filled(tmp_path).close()
    for other in (LAYOUT, RowLayout(LAYOUT.image_shape, 2, 4)):
        with pytest.raises(BadInput, match="vector size 3"):
            open_replay(tmp_path, layout=other)
    open_replay(tmp_path, layout=VECTOR).close()


def test_a_reader_beside_the_run_finds_the_layout_and_the_rows(tmp_path):
    filled(tmp_path).close()
    files = ReplayFiles(tmp_path)
    assert files.layout == VECTOR
    rows = np.concatenate([decode_chunk(record, VECTOR).vector for record in files.records])
    assert len(rows) == 12 + 25 + 4 and rows[11].tolist() == [0, 11, 11]


def test_rows_without_an_image_are_stored_and_drawn(tmp_path):
    sizes = {"image_shape": (64, 64, 0), "action_size": 2, "vector_size": 3}
    config = ReplayConfig(capacity_steps=1000, batch_length=10, segment_steps=40)
    replay = Replay(tmp_path, config, **sizes)
    for chunk in chunks_of(0, 30):
        empty = np.zeros((len(chunk), 64, 64, 0), np.uint8)
        replay.insert(replace(with_vectors(chunk), image=empty))
    batch = replay.sample(0, 0)
    assert batch.image.shape == (config.batch_size, 10, 64, 64, 0)
    assert (batch.vector[..., 1] == batch.reward).all()
    assert replay.counts().stored_bytes < 30 * 60 + 2_000


def test_a_vector_that_is_not_finite_is_refused(tmp_path):
    replay = open_replay(tmp_path, CONFIG, VECTOR)
    chunk = with_vectors(chunks_of(0, 5)[0])
    chunk.vector[3, 0] = np.nan
    with pytest.raises(ValueError, match="vector holds values that are not finite"):
        replay.insert(chunk)
