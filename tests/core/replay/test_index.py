"""The index of episodes: what it holds after any order of adding, evicting and dropping."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer_core.replay.format import Record
from dreamer_core.replay.index import EpisodeIndex
from tests.core.replay.counting import chunks_of, record_of, rows_of

T = 10


def holding(*lengths: int, end="terminal", chunk=7) -> EpisodeIndex:
    index = EpisodeIndex(batch_length=T)
    for episode, rows in enumerate(lengths):
        for piece in chunks_of(episode, rows, chunk=chunk, end=end):
            index.add(record_of(piece))
    return index


def held(index: EpisodeIndex) -> list[tuple[int, int, int]]:
    """(episode, first row, end) of what is held."""
    return [(each.key[1], each.first_steps[0], each.end) for each in index.episodes]


# By hand


def test_records_that_follow_each_other_are_one_episode():
    index = holding(20, 3, 12)
    assert held(index) == [(0, 0, 20), (1, 0, 3), (2, 0, 12)]
    assert (index.stored_steps, index.short_episodes, index.num_open) == (35, 1, 0)


def test_an_episode_is_open_until_its_end_or_the_next_one_comes():
    index = holding(4, end=None)
    assert (index.num_open, index.short_episodes, index.num_eligible) == (1, 0, 0)
    index.add(record_of(rows_of(1, 0, 12)))
    assert (index.num_open, index.short_episodes, index.num_eligible) == (1, 1, 2)
    assert index.episodes[0].is_closed and not index.episodes[0].is_terminal
    index.add(record_of(rows_of(1, 12, 1, end="terminal")))
    assert index.num_open == 0 and index.episodes[1].is_terminal


def test_eviction_takes_heads_and_whole_episodes():
    index = holding(14, 14, 14)
    index.forget_oldest(3)
    assert held(index) == [(1, 7, 14), (2, 0, 14)]
    assert index.find((0, 0)) is None and index.find((0, 1)) is index.episodes[0]
    assert (index.stored_steps, index.short_episodes) == (21, 1)
    index.forget_oldest(3)
    assert held(index) == [] and index.newest is None and index.num_eligible == 0


def test_a_record_dropped_from_the_middle_leaves_two_episodes():
    index = holding(28)
    index.forget(index.episodes[0].records[1])
    head, rest = index.episodes
    assert held(index) == [(0, 0, 7), (0, 14, 28)] and index.find((0, 0)) is rest
    assert head.is_closed and not head.is_terminal and rest.is_terminal
    assert (index.stored_steps, index.short_episodes) == (21, 1)


@pytest.mark.parametrize(("at", "left"), [(0, [(0, 7, 21)]), (2, [(0, 0, 14)])])
def test_a_record_dropped_at_an_edge_leaves_one_episode(at, left):
    index = holding(21)
    index.forget(index.episodes[0].records[at])
    assert held(index) == left and index.find((0, 0)) is index.episodes[0]


def test_what_goes_on_after_a_gap_is_an_episode_of_its_own():
    index = holding(7, end=None)
    index.add(record_of(rows_of(0, 14, 12, end="limit")))
    assert held(index) == [(0, 0, 7), (0, 14, 26)] and index.short_episodes == 1


# Against an oracle that looks at every row


class Oracle:
    """The records held, in order; a record before a dropped one is marked as an end."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ends: set[Record] = set()
        self.seen: set[tuple[int, int]] = set()

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.seen.add(record.episode_key)

    def drop(self, record: Record) -> None:
        at = self.records.index(record)
        self.ends |= set(self.records[max(0, at - 1) : at])
        del self.records[at]

    def episodes(self) -> list[list[Record]]:
        pieces: list[list[Record]] = []
        for record in self.records:
            last = pieces[-1][-1] if pieces else None
            if last is not None and _follows(record, last) and last not in self.ends:
                pieces[-1].append(record)
            else:
                pieces.append([record])
        return pieces


def _follows(record: Record, last: Record) -> bool:
    is_same = record.episode_key == last.episode_key and not last.is_last
    return is_same and last.first_step + last.rows == record.first_step


def check(index: EpisodeIndex, oracle: Oracle) -> None:
    pieces = oracle.episodes()
    assert [each.records for each in index.episodes] == pieces
    rows = [sum(record.rows for record in piece) for piece in pieces]
    lasts = [piece[-1] for piece in pieces]
    closed = [last.is_last or last in oracle.ends or last is not lasts[-1] for last in lasts]
    assert [each.rows for each in index.episodes] == rows
    assert [each.is_closed for each in index.episodes] == closed
    assert index.stored_steps == sum(rows)
    assert index.num_open == closed.count(False) and all(closed[:-1])
    is_short = [is_closed and n < T for is_closed, n in zip(closed, rows, strict=True)]
    assert index.short_episodes == sum(is_short)
    is_eligible = [is_closed or n >= T for is_closed, n in zip(closed, rows, strict=True)]
    assert index.num_eligible == sum(is_eligible)
    newest = {each.key: each for each in index.episodes}
    assert all(index.find(key) is newest.get(key) for key in oracle.seen)


ADDITIONS = st.tuples(st.just("add"), st.integers(1, 6), st.sampled_from(["go on", "end", "new"]))
REMOVALS = st.tuples(st.sampled_from(["evict", "drop"]), st.integers(0, 50), st.none())


@settings(max_examples=200, deadline=None)
@given(orders=st.lists(ADDITIONS | ADDITIONS | REMOVALS, max_size=60))
def test_the_sums_and_the_pieces_are_exact_whatever_comes_and_goes(orders):
    index, oracle, template = EpisodeIndex(T), Oracle(), record_of(rows_of(0, 0, 1))
    episode, step, size = 0, 0, 0
    for kind, number, how in orders:
        size = len(oracle.records)
        if kind == "add":
            record = replace(template, episode=episode, first_step=step, rows=number)
            record.is_last = how == "end"
            index.add(record)
            oracle.add(record)
            episode, step = (episode, step + number) if how == "go on" else (episode + 1, 0)
        elif kind == "evict" and size:
            index.forget_oldest(number % (size + 1))
            del oracle.records[: number % (size + 1)]
        elif size > 1:  # the newest record is never dropped: its checksum was compared
            record = oracle.records[number % (size - 1)]
            index.forget(record)
            oracle.drop(record)
        check(index, oracle)
