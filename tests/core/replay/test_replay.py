"""Replay: chunks in, sequences out, and nothing that was acknowledged is ever lost.

Rows come from a counting environment: the image of row t of episode e is filled with t, the
reward is 1000 * e + t, the action is (e, t) with zeros at t = 0. So any misalignment shows.
"""

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

from dreamer_core.config import ReplayConfig
from dreamer_core.replay.replay import Replay, ReplayInUse, StaleIncarnation
from dreamer_core.types import Batch, EpisodeChunk

SHAPE = (2, 2, 1)
CONFIG = ReplayConfig(capacity_steps=100_000, batch_size=50, batch_length=10, segment_steps=40)


def open_replay(directory: Path, config: ReplayConfig = CONFIG) -> Replay:
    return Replay(directory, config, image_shape=SHAPE, action_size=2)


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


def insert_episode(replay, episode, rows, *, chunk=7, end="terminal", incarnation=0):
    for start in range(0, rows, chunk):
        stop = min(start + chunk, rows)
        is_end = stop == rows
        piece = rows_of(
            episode, start, stop - start, end=end if is_end else None, incarnation=incarnation
        )
        assert replay.insert(piece)


def places_of(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Episode and step of each row [B, T], read from the reward."""
    reward = batch.reward.astype(int)
    return reward // 1000, reward % 1000


def draw_many(replay: Replay, draws: int) -> tuple[np.ndarray, np.ndarray]:
    batches = [places_of(replay.sample(step, seed=3)) for step in range(draws)]
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


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


# What is drawn

# Upper 0.1% point of chi-square with 10 degrees of freedom: NIST/SEMATECH e-Handbook of
# Statistical Methods, table 1.3.6.7.4. The draws are seeded, so a pass is a pass for good.
CHI_SQUARE_10_DF = 29.588


def chi_square(counts: np.ndarray, probability: np.ndarray) -> float:
    expected = counts.sum() * probability
    return float(((counts - expected) ** 2 / expected).sum())


def test_starts_are_uniform_except_that_the_last_one_takes_all_that_do_not_fit(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=20)
    _, steps = draw_many(replay, 400)
    counts = np.bincount(steps[:, 0], minlength=11)
    probability = np.array([1 / 20] * 10 + [10 / 20])  # starts 10 to 19 are clipped to 10
    assert len(counts) == 11 and chi_square(counts, probability) < CHI_SQUARE_10_DF


def test_episodes_are_drawn_uniformly_however_long(tmp_path):
    replay = open_replay(tmp_path)
    for episode in range(11):
        insert_episode(replay, episode, rows=10 + 9 * episode)
    episodes, _ = draw_many(replay, 100)
    counts = np.bincount(episodes[:, 0], minlength=11)
    assert chi_square(counts, np.full(11, 1 / 11)) < CHI_SQUARE_10_DF


def test_a_short_episode_goes_on_with_the_next_ones_and_marks_each_join(tmp_path):
    replay = open_replay(tmp_path)
    for episode, rows in enumerate((3, 4, 20)):
        insert_episode(replay, episode, rows)
    batch = replay.sample(0, seed=0)
    episode, step = places_of(batch)
    b = int(np.flatnonzero(episode[:, 0] == 0)[0])
    assert episode[b].tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert step[b].tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1, 2]
    assert np.flatnonzero(batch.is_first[b]).tolist() == [0, 3, 7]
    assert np.flatnonzero(batch.is_terminal[b]).tolist() == [2, 6]
    assert replay.counts().short_episodes == 2


def test_the_newest_short_episode_goes_on_with_the_oldest(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=20)
    insert_episode(replay, 1, rows=4)
    batch = replay.sample(0, seed=0)
    episode, step = places_of(batch)
    b = int(np.flatnonzero(episode[:, 0] == 1)[0])
    assert episode[b].tolist() == [1] * 4 + [0] * 6 and step[b, 4:].tolist() == list(range(6))


def test_an_open_episode_counts_once_it_has_a_whole_sequence(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 9))
    assert not replay.can_sample()
    with pytest.raises(ValueError, match="insert more"):
        replay.sample(0, seed=0)
    replay.insert(rows_of(0, 9, 1))
    assert replay.can_sample() and places_of(replay.sample(0, seed=0))[1][0, -1] == 9


def test_an_open_episode_is_not_drawn_before_that(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=20)
    replay.insert(rows_of(1, 0, 9))
    episode, _ = draw_many(replay, 5)
    assert (episode == 0).all()


def test_an_episode_cut_short_is_closed_and_drawn_although_it_is_short(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 4))
    assert replay.counts().short_episodes == 0
    insert_episode(replay, 1, rows=20)
    episode, _ = draw_many(replay, 5)
    assert replay.counts().short_episodes == 1 and (episode[:, 0] == 0).any()


def test_a_closed_short_episode_alone_is_not_repeated_to_fill_a_sequence(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=5)
    assert not replay.can_sample()


def test_prefill_is_not_glued_to_what_follows(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 0, rows=15, end=None)
    insert_episode(replay, 0, rows=15, end=None, incarnation=1)
    assert replay.counts().episodes == 1  # the first is closed, the second open
    for step in range(20):
        batch = replay.sample(step, seed=0)
        _, steps = places_of(batch)
        assert (np.diff(steps, axis=1) == 1).all() and not batch.is_terminal.any()


def test_the_same_seed_and_step_draw_the_same_batch_also_after_reopening(tmp_path):
    replay = open_replay(tmp_path)
    for episode in range(5):
        insert_episode(replay, episode, rows=4 + 10 * episode, end=None)
    first, other = replay.sample(7, seed=1), replay.sample(8, seed=1)
    replay.close()
    again = open_replay(tmp_path).sample(7, seed=1)
    for name in ("image", "prev_action", "reward", "is_first", "is_terminal"):
        assert (getattr(first, name) == getattr(again, name)).all()
    assert (first.reward != other.reward).any()


# What is accepted


def test_inserting_a_chunk_twice_stores_it_once(tmp_path):
    replay = open_replay(tmp_path)
    chunk = rows_of(0, 0, 10)
    assert replay.insert(chunk)
    assert not replay.insert(chunk)
    replay.insert(rows_of(1, 0, 10))
    assert not replay.insert(chunk)
    assert replay.counts().stored_steps == 20 and replay.counts().policy_steps == 18


@pytest.mark.parametrize("first_step", [3, 11, 30])
def test_a_gap_or_a_partial_overlap_is_refused(tmp_path, first_step):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 10))
    with pytest.raises(ValueError, match="must begin at step 10"):
        replay.insert(rows_of(0, first_step, 10))
    assert replay.counts().stored_steps == 10


def test_an_episode_must_begin_at_its_first_row(tmp_path):
    with pytest.raises(ValueError, match="must begin at step 0"):
        open_replay(tmp_path).insert(rows_of(0, 5, 5))


def test_a_closed_episode_takes_no_more_rows(tmp_path):
    replay = open_replay(tmp_path)
    insert_episode(replay, 1, rows=10)
    with pytest.raises(ValueError, match="has ended"):
        replay.insert(rows_of(1, 10, 5))
    with pytest.raises(ValueError, match="has ended"):
        replay.insert(rows_of(0, 0, 5))  # an episode number that was passed over


def test_a_replaced_collector_is_refused(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 10, incarnation=2))
    with pytest.raises(StaleIncarnation, match="incarnation 2 has taken over"):
        replay.insert(rows_of(5, 0, 10, incarnation=1))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"image": np.zeros((4, 2, 3, 1), np.uint8)}, ValueError),
        ({"image": np.zeros((4, *SHAPE), np.float32)}, TypeError),
        ({"prev_action": np.zeros((4, 3), np.float32)}, ValueError),
        ({"reward": np.zeros(4, np.float64)}, TypeError),
        ({"reward": np.full(4, np.nan, np.float32)}, ValueError),
        ({"is_first": np.zeros(4, np.bool_)}, ValueError),
        ({"is_first": np.ones(4, np.bool_)}, ValueError),
        ({"is_last": np.array([False, True, False, False])}, ValueError),
        ({"is_terminal": np.array([False, False, False, True])}, ValueError),
        ({"episode": -1}, ValueError),
    ],
)
def test_what_breaks_the_alignment_chart_is_refused_by_name(tmp_path, change, error):
    field = next(iter(change))
    with pytest.raises(error, match=field):
        open_replay(tmp_path).insert(replace(rows_of(0, 0, 4), **change))


def test_a_chunk_without_rows_is_refused(tmp_path):
    chunk = rows_of(0, 0, 1)
    names = ("image", "prev_action", "reward", "is_first", "is_last", "is_terminal")
    empty = replace(chunk, **{name: getattr(chunk, name)[:0] for name in names})
    with pytest.raises(ValueError, match="no rows"):
        open_replay(tmp_path).insert(empty)


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
    assert counts.stored_bytes == sum(path.stat().st_size for path in _files(tmp_path))
    assert open_replay(tmp_path, config).counts() == counts


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


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
    lengths = [held.rows for held in replay._episodes]
    assert counts.short_episodes == sum(length < 10 for length in lengths)
    assert counts.stored_steps == sum(lengths)
    assert set(replay._newest_by_key) == {held.key for held in replay._episodes}


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
    assert replay.counts().stored_steps == 205 and len(_files(tmp_path)) == 2


# Restarts


def test_an_open_episode_goes_on_after_reopening(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 10))
    replay.close()
    replay = open_replay(tmp_path)
    assert not replay.insert(rows_of(0, 0, 10))
    assert replay.insert(rows_of(0, 10, 10, end="terminal"))
    assert replay.counts().stored_episodes == 1 and len(_files(tmp_path)) == 1


INSERT_FOREVER = """
import sys
from pathlib import Path
from tests.core.replay.test_replay import open_replay, rows_of
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
    with pytest.raises(OSError, match="opening the replay failed"):
        open_replay(tmp_path / "file")


def test_flush_and_close_may_come_at_any_time(tmp_path):
    replay = open_replay(tmp_path)
    replay.flush()
    replay.insert(rows_of(0, 0, 5))
    replay.flush()
    replay.close()
    replay.close()
    replay.flush()
