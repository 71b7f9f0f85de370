"""Replay: chunks in, sequences out, and nothing that was acknowledged is ever lost."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer_core.errors import BadInput
from dreamer_core.replay.replay import Replay, ReplayInUse, StaleIncarnation
from tests.core.replay.counting import (
    CONFIG,
    SHAPE,
    draw_many,
    insert_episode,
    open_replay,
    places_of,
    rows_of,
    segments_in,
)

# Rows come out as they went in


def test_every_column_of_a_sampled_row_belongs_to_the_same_step(tmp_path):
    replay = open_replay(tmp_path)
    for episode in range(4):
        insert_episode(replay, episode, rows=30 + episode)
    batch = replay.sample(0, seed=0)
    episode, step = places_of(batch)
    assert (batch.image == step[..., None, None, None]).all()
    later = ~batch.is_first
    assert (batch.prev_action[later] == np.stack([episode, step], axis=-1)[later]).all()
    assert (np.diff(step, axis=1) == 1).all() and (np.diff(episode, axis=1) == 0).all()
    assert (batch.is_terminal == (step == 29 + episode)).all()


def test_each_sequence_starts_from_the_zero_state(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=30)
    batch = replay.sample(0, seed=0)
    assert batch.is_first[:, 0].all() and not batch.is_first[:, 1:].any()
    assert (batch.prev_action[batch.is_first] == 0).all()


def test_an_end_by_limit_is_not_terminal(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=10, end="limit")
    batch = replay.sample(0, seed=0)
    assert not batch.is_terminal.any()


def test_batches_are_new_arrays_of_the_documented_types(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=30)
    batch, again = replay.sample(0, seed=0), replay.sample(0, seed=0)
    batch.image[:] = 255
    assert not (again.image == 255).any()
    assert batch.image.shape == (50, 10, *SHAPE) and batch.image.dtype == np.uint8
    assert batch.prev_action.shape == (50, 10, 2) and batch.prev_action.dtype == np.float32
    assert batch.reward.dtype == np.float32 and batch.is_first.dtype == np.bool_


def test_read_only_and_strided_chunks_are_stored_right(tmp_path):
    replay = open_replay(tmp_path)
    chunk = rows_of(0, 0, 20, end="limit")
    twice = np.repeat(chunk.image, 2, axis=0)
    twice.flags.writeable = False
    replay.insert(replace(chunk, image=twice[::2]))
    batch = replay.sample(0, seed=0)
    assert (batch.image[..., 0, 0, 0] == places_of(batch)[1]).all()


# What is accepted


def test_inserting_a_chunk_twice_stores_it_once(tmp_path):
    replay = open_replay(tmp_path)
    chunk = rows_of(0, 0, 10)
    assert replay.insert(chunk)
    assert not replay.insert(chunk)
    replay.insert(rows_of(1, 0, 10))
    assert not replay.insert(chunk)
    assert replay.counts().stored_steps == 20 and replay.counts().policy_steps == 18


def test_a_replaced_collector_is_refused(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 10, incarnation=2))
    with pytest.raises(StaleIncarnation, match="incarnation 2 has taken over"):
        replay.insert(rows_of(5, 0, 10, incarnation=1))


# Eviction and counters


def test_whole_oldest_segments_are_evicted_and_the_counters_go_on(tmp_path):
    config = replace(CONFIG, capacity_steps=500, batch_size=50)
    replay = open_replay(tmp_path, config)
    for episode in range(40):
        insert_episode(replay, episode, rows=30)
    counts = replay.counts()
    assert 460 < counts.stored_steps <= 500
    assert (counts.policy_steps, counts.episodes) == (40 * 29, 40)
    replay.close()
    assert counts.stored_bytes == sum(path.stat().st_size for path in segments_in(tmp_path))
    assert open_replay(tmp_path, config).counts() == counts


def test_rows_left_by_eviction_are_still_drawn_and_right(tmp_path):
    config = replace(CONFIG, capacity_steps=500)
    replay = open_replay(tmp_path, config)
    insert_episode(replay, 0, rows=250)
    insert_episode(replay, 1, rows=400)
    episode, step = (x.astype(int) for x in draw_many(replay, 40))
    assert set(np.unique(episode)) == {0, 1}
    assert step[episode == 0].min() > 50 and step[episode == 0].max() == 249
    assert (np.diff(step, axis=1) == 1).all()


def test_short_episodes_are_counted_exactly_through_eviction(tmp_path):
    config = replace(CONFIG, capacity_steps=500)
    replay = open_replay(tmp_path, config)
    for episode in range(300):
        insert_episode(replay, episode, rows=3 + episode % 13)
    counts = replay.counts()
    lengths = [held.rows for held in replay._index.episodes]
    assert counts.short_episodes == sum(length < 10 for length in lengths)
    assert counts.stored_steps == sum(lengths)
    assert all(replay._index.find(held.key) for held in replay._index.episodes)


def test_one_endless_episode_fills_and_evicts_like_any_other(tmp_path):
    replay = open_replay(tmp_path, replace(CONFIG, capacity_steps=500))
    insert_episode(replay, 0, rows=900, end=None)
    counts = replay.counts()
    assert (counts.episodes, counts.stored_episodes, counts.policy_steps) == (0, 1, 899)
    assert places_of(replay.sample(0, seed=0))[1].min() >= 400


def test_a_chunk_larger_than_a_segment_is_stored(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 5))
    replay.insert(rows_of(0, 5, 200))
    assert replay.counts().stored_steps == 205 and len(segments_in(tmp_path)) == 2


# Restarts


def test_an_open_episode_goes_on_after_reopening(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 10))
    replay.close()
    replay = open_replay(tmp_path)
    assert not replay.insert(rows_of(0, 0, 10))
    assert replay.insert(rows_of(0, 10, 10, end="terminal"))
    assert replay.counts().stored_episodes == 1 and len(segments_in(tmp_path)) == 1


INSERT_FOREVER = """
import sys
from pathlib import Path
from tests.core.replay.counting import open_replay, rows_of
replay = open_replay(Path(sys.argv[1]))
for episode in range(10**6):
    for step in range(0, 60, 6):
        replay.insert(rows_of(episode, step, 6, end="limit" if step == 54 else None))
        counts = replay.counts()
        print(counts.policy_steps, counts.stored_steps, flush=True)
"""


@pytest.mark.parametrize("num_acknowledged", [1, 57, 400])
def test_what_was_acknowledged_survives_sigkill(tmp_path, num_acknowledged):
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", INSERT_FOREVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        lines = [process.stdout.readline() for _ in range(num_acknowledged)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]  # a kill may tear the last one
    policy_steps, stored_steps = map(int, whole[-1].split())
    counts = open_replay(tmp_path).counts()
    assert counts.stored_steps - stored_steps in (0, 6)  # one may be stored and not yet printed
    assert counts.policy_steps == counts.stored_steps - -(-counts.stored_steps // 60)
    assert counts.policy_steps - policy_steps in (0, 5, 6)


def test_a_failed_write_changes_nothing_and_may_be_tried_again(tmp_path, monkeypatch):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 10))
    before, write = replay.counts(), os.pwrite

    def write_half_then_fail(fd, data, offset):
        if len(data) < 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: len(data) - 100], offset)

    monkeypatch.setattr(os, "pwrite", write_half_then_fail)
    with pytest.raises(OSError, match="free disk space") as raised:
        replay.insert(rows_of(0, 10, 10))
    assert raised.value.errno == errno.ENOSPC and replay.counts() == before
    monkeypatch.undo()
    left_by_a_kill = shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    assert open_replay(left_by_a_kill).counts() == before  # no half record lies in the file
    assert replay.insert(rows_of(0, 10, 10))


def test_another_shape_is_refused_and_nothing_is_changed(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=50)
    replay.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"\(2, 2, 1\) and action size 2.*another directory"):
        Replay(tmp_path, CONFIG, image_shape=SHAPE, action_size=3)
    with pytest.raises(ValueError, match=r"\(2, 2, 3\)"):
        Replay(tmp_path, CONFIG, image_shape=(2, 2, 3), action_size=2)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_directory_is_open_once_only(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamer_core.replay.replay._LOCK_PATIENCE_S", 0.2)
    replay = open_replay(tmp_path)
    with pytest.raises(ReplayInUse, match="close that one"):
        open_replay(tmp_path)
    replay.close()
    open_replay(tmp_path)
    with pytest.raises(ValueError, match="was closed"):
        replay.insert(rows_of(0, 0, 5))


def test_a_place_that_cannot_be_a_directory_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"Wanted to open .*file: File exists"):
        open_replay(tmp_path / "file")


def test_flush_and_close_may_come_at_any_time(tmp_path):
    replay = open_replay(tmp_path)
    replay.flush()
    replay.insert(rows_of(0, 0, 5))
    replay.flush()
    replay.close()
    replay.close()
    replay.flush()
