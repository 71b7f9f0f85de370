"""What is refused before it is stored: by its columns, by its flags, by its place."""

from dataclasses import replace

import numpy as np
import pytest

from dreamer_core.replay.checks import check_columns, check_flags, is_duplicate
from dreamer_core.replay.index import EpisodeIndex
from tests.core.replay.counting import (
    LAYOUT,
    SHAPE,
    chunks_of,
    insert_episode,
    open_replay,
    record_of,
    rows_of,
)


def holding(*chunks) -> EpisodeIndex:
    index = EpisodeIndex(batch_length=10)
    for chunk in chunks:
        index.add(record_of(chunk))
    return index


# As pure functions


@pytest.mark.parametrize("chunk", chunks_of(3, rows=20, end="limit"))
def test_what_follows_the_chart_passes(chunk):
    check_columns(chunk, LAYOUT)
    check_flags(chunk)


def test_rows_that_are_held_are_a_duplicate_also_as_a_part():
    index = holding(rows_of(0, 0, 10), rows_of(0, 10, 5))
    assert all(is_duplicate(rows_of(0, *rows), index) for rows in ((0, 10), (10, 5), (3, 4)))
    assert not is_duplicate(rows_of(0, 15, 5), index)
    assert not is_duplicate(rows_of(1, 0, 5), index)


def test_rows_that_were_evicted_are_still_a_duplicate_of_what_is_left():
    index = holding(rows_of(0, 0, 10), rows_of(0, 10, 5))
    index.forget_oldest(1)
    assert is_duplicate(rows_of(0, 0, 10), index)


def test_a_number_that_was_passed_over_is_refused_in_any_incarnation():
    index = holding(rows_of(3, 0, 10, incarnation=2))
    for incarnation, episode in ((2, 2), (1, 9)):
        with pytest.raises(ValueError, match="has ended"):
            is_duplicate(rows_of(episode, 0, 5, incarnation=incarnation), index)


# By a replay


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
