"""What is drawn: episodes and starts as the paper says, and each row where it belongs."""

import numpy as np
import pytest

from dreamer_core.replay.draw import draw, pick
from dreamer_core.replay.format import Record
from dreamer_core.replay.index import EpisodeIndex
from dreamer_core.types import Batch
from tests.core.replay.counting import (
    LAYOUT,
    chunks_of,
    draw_many,
    insert_episode,
    open_replay,
    places_of,
    record_of,
    rows_of,
)


def holding(*lengths: int, end="terminal") -> EpisodeIndex:
    """Episodes of these lengths, T being 10."""
    index = EpisodeIndex(batch_length=10)
    for episode, rows in enumerate(lengths):
        for chunk in chunks_of(episode, rows, end=end):
            index.add(record_of(chunk))
    return index


def drawn_from(index: EpisodeIndex, num_sequences: int = 50, seed: int = 0) -> Batch:
    drawn = draw(index, LAYOUT, num_sequences, np.random.default_rng(seed))
    assert isinstance(drawn, Batch)
    return drawn


# From an index alone


def test_a_sequence_begins_so_that_it_ends_within_its_episode_if_that_is_long_enough():
    starts = set(pick(holding(12, 3), 500, np.random.default_rng(0)))
    assert starts == {(0, 0), (0, 1), (0, 2), (1, 0)}


@pytest.mark.parametrize(("is_end_oversampled", "share_of_last"), [(True, 10 / 12), (False, 1 / 3)])
def test_how_often_the_end_of_an_episode_is_drawn(is_end_oversampled, share_of_last):
    places = pick(
        holding(12), 3000, np.random.default_rng(0), is_end_oversampled=is_end_oversampled
    )
    starts = np.array([start for _, start in places])
    assert set(starts) == {0, 1, 2}
    assert np.mean(starts == 2) == pytest.approx(share_of_last, abs=0.03)


def test_the_draw_depends_on_the_generator_and_the_content_alone():
    one, other = holding(25, 4, 17), holding(25, 4, 17)
    for name in ("image", "prev_action", "reward", "is_first", "is_terminal"):
        same = [getattr(drawn_from(index, seed=5), name) for index in (one, other)]
        assert (same[0] == same[1]).all()
    assert (drawn_from(one, seed=5).reward != drawn_from(one, seed=6).reward).any()


def test_a_batch_is_what_the_rows_written_out_one_by_one_would_be():
    lengths = (3, 25, 7, 14, 1)
    index = holding(*lengths)
    rows = [(e, t) for e, length in enumerate(lengths) for t in range(length)]
    begins = [rows.index((e, 0)) for e in range(len(lengths))]
    batch = drawn_from(index)
    episode, step = places_of(batch)
    for b, (number, start) in enumerate(pick(index, 50, np.random.default_rng(0))):
        expected = [rows[(begins[number] + start + t) % len(rows)] for t in range(10)]
        assert list(zip(episode[b].tolist(), step[b].tolist(), strict=True)) == expected
        ends = [t == lengths[e] - 1 for e, t in expected]
        assert batch.is_terminal[b].tolist() == ends
        assert batch.is_first[b].tolist() == [True] + [t == 0 for _, t in expected[1:]]
        assert (batch.prev_action[b][batch.is_first[b]] == 0).all()


def test_the_first_record_that_is_not_intact_is_returned_in_place_of_a_batch():
    index = holding(30)
    rotten = index.episodes[0].records[2]
    rotten.data[rotten.payload_at] ^= 1
    drawn = draw(index, LAYOUT, 50, np.random.default_rng(0))
    assert isinstance(drawn, Record) and drawn is rotten
    index.forget(rotten)
    assert not (set(places_of(drawn_from(index))[1].ravel().tolist()) & set(range(14, 21)))


# From a replay

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
