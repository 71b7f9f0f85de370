"""Segment files: what a kill, a flipped bit or a foreign file leaves behind, and what is saved."""

import logging
import struct
from dataclasses import replace

import pytest

from dreamer_core.replay.format import (
    DamagedFrame,
    SegmentVersionError,
    Totals,
    read_file_header,
)
from dreamer_core.replay.segments import open_segments
from dreamer_core.replay.survey import map_file
from tests.core.replay.counting import (
    CONFIG,
    LAYOUT,
    draw_many,
    fill,
    flip,
    open_replay,
    records_of,
    rows_of,
)

# The format


def test_a_file_names_its_layout_and_the_totals_before_it(tmp_path):
    paths = fill(tmp_path)
    header = read_file_header(map_file(paths[1]))
    assert header.layout == LAYOUT
    assert header.totals == Totals(policy_steps=33, episodes=2, last_incarnation=0)


def test_columns_lie_contiguous_in_the_order_of_the_layout(tmp_path):
    record = records_of(fill(tmp_path)[0])[1]
    columns = record.columns()
    assert bytes(columns[: 7 * 4]) == bytes(step for step in range(7, 14) for _ in range(4))
    assert struct.unpack_from("<7f", columns, 7 * (4 + 8)) == tuple(range(7, 14))


def test_a_segment_holds_about_segment_steps_rows(tmp_path):
    rows = [sum(record.rows for record in records_of(path)) for path in fill(tmp_path)]
    assert rows == [35, 35, 35, 7]


def test_the_segment_being_written_is_a_hole_and_is_cut_when_closed(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 5))
    path = tmp_path / "00000000.segment"
    held = replay.counts().stored_bytes
    assert path.stat().st_size > held
    replay.close()
    assert path.stat().st_size == held


def test_a_full_segment_left_by_a_kill_is_cut_to_its_true_length(tmp_path):
    path = fill(tmp_path, episodes=1, rows=40)[0]
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(10_000))
    replay = open_replay(tmp_path)
    assert path.read_bytes() == whole and replay.counts().repaired_records == 0


# Torn tails


def test_a_tail_torn_at_any_byte_is_cut_at_the_last_whole_record(tmp_path, caplog):
    path = fill(tmp_path / "whole", episodes=1, rows=9, chunk=3)[0]
    content, start = path.read_bytes(), records_of(path)[-1].start
    for end in range(start + 1, len(content)):
        torn = tmp_path / str(end) / path.name
        torn.parent.mkdir()
        torn.write_bytes(content[:end])
        replay = open_replay(torn.parent)
        counts = replay.counts()
        assert (counts.stored_steps, counts.policy_steps, counts.repaired_records) == (6, 5, 1)
        assert torn.read_bytes() == content[:start]
        assert replay.insert(rows_of(0, 6, 3))
        replay.close()
    assert caplog.messages[0].startswith(f"{tmp_path}") and "no whole record" in caplog.text


def test_a_tail_torn_at_a_record_boundary_is_no_damage(tmp_path, caplog):
    path = fill(tmp_path, episodes=1, rows=9, chunk=3)[0]
    path.write_bytes(path.read_bytes()[: records_of(path)[-1].start])
    assert open_replay(tmp_path).counts().repaired_records == 0 and not caplog.messages


def test_a_tail_torn_inside_the_hole_of_an_unclosed_segment_is_cut(tmp_path):
    path = fill(tmp_path, episodes=1, rows=9, chunk=3)[0]
    path.write_bytes(path.read_bytes()[:-9] + bytes(10_000))  # reward of the last row is gone
    counts = open_replay(tmp_path).counts()
    assert (counts.stored_steps, counts.repaired_records) == (6, 1)


def test_repairs_stay_counted_after_reopening(tmp_path):
    path = fill(tmp_path, episodes=1, rows=9, chunk=3)[0]
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(3):
        replay = open_replay(tmp_path)
        assert replay.counts().repaired_records == 1
        replay.close()


# Damage elsewhere


@pytest.mark.parametrize("place", [0, 3, 7, 14, 30])
def test_a_damaged_header_costs_its_record_and_no_other(tmp_path, place, caplog):
    paths = fill(tmp_path)
    before = open_replay(tmp_path).counts()
    flip(paths[1], records_of(paths[1])[2].start + place)
    counts = open_replay(tmp_path).counts()
    assert counts.stored_steps == before.stored_steps - 7 and counts.repaired_records == 1
    assert (counts.policy_steps, counts.episodes) == (before.policy_steps, before.episodes)
    assert (tmp_path / "00000001.segment.damaged").exists() and str(paths[1]) in caplog.text


def test_a_damaged_payload_in_the_newest_segment_costs_its_record_only(tmp_path):
    path = fill(tmp_path, episodes=1, rows=28)[0]
    flip(path, records_of(path)[1].payload_at + 5)
    replay = open_replay(tmp_path)
    counts = replay.counts()
    assert (counts.stored_steps, counts.stored_episodes, counts.repaired_records) == (21, 2, 1)
    assert path.with_name(path.name + ".damaged").exists()


def test_no_sequence_runs_over_the_hole_that_damage_left(tmp_path):
    path = fill(tmp_path, episodes=1, rows=35)[0]
    flip(path, records_of(path)[2].payload_at)  # rows 14 to 20
    _, step = draw_many(open_replay(tmp_path), 20)
    assert set(step.ravel().tolist()) == set(range(14)) | set(range(21, 35))
    assert ((step[:, 1:] - step[:, :-1]) == 1).all()


def test_a_cut_segment_in_the_middle_keeps_its_whole_records(tmp_path):
    paths = fill(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    counts = open_replay(tmp_path).counts()
    assert (counts.stored_steps, counts.policy_steps) == (4 * 28 - 7, 4 * 27)


@pytest.mark.parametrize("content", [b"", b"DSEG", b"not a segment at all" * 10])
@pytest.mark.parametrize("number", [0, 1, 9])
def test_a_foreign_file_is_set_aside_by_name(tmp_path, content, number, caplog):
    fill(tmp_path)
    path = tmp_path / f"{number:08d}.segment"
    path.write_bytes(content)
    replay = open_replay(tmp_path)
    assert path.with_name(path.name + ".damaged").read_bytes() == content
    assert str(path) in caplog.text and replay.counts().repaired_records == 1
    assert replay.counts().stored_steps == 4 * 28 - (35 if number < 2 else 0)
    assert replay.counts().policy_steps == 4 * 27


def test_what_an_interrupted_creation_left_is_removed(tmp_path):
    fill(tmp_path)
    (tmp_path / "00000009.tmp").write_bytes(b"DSEG")
    (tmp_path / "notes.txt").write_text("mine")
    assert open_replay(tmp_path).counts().repaired_records == 0
    assert not list(tmp_path.glob("*.tmp")) and (tmp_path / "notes.txt").exists()


def test_another_format_version_is_refused_and_not_taken_for_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamer_core.replay.format.FORMAT_VERSION", 3)
    fill(tmp_path)
    monkeypatch.undo()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SegmentVersionError, match="wanted segment format 2 or older, found 3"):
        open_replay(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_header_that_is_none_is_refused():
    with pytest.raises(DamagedFrame, match="ends within a prefix"):
        read_file_header(memoryview(b"DSEG"))
    with pytest.raises(DamagedFrame, match="wanted b'DSEG'"):
        read_file_header(memoryview(bytes(100)))


def test_opening_reads_no_payload_but_the_newest_segments(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    paths = fill(tmp_path)
    flip(paths[0], records_of(paths[0])[0].payload_at)
    assert open_replay(tmp_path).counts().repaired_records == 0 and not caplog.messages


def test_opening_with_room_for_fewer_rows_deletes_nothing_until_the_next_chunk(tmp_path):
    paths = fill(tmp_path, episodes=30)
    config = replace(CONFIG, capacity_steps=500)
    replay = open_replay(tmp_path, config)
    assert sorted(tmp_path.glob("*.segment")) == paths
    replay.insert(rows_of(30, 0, 5))
    assert replay.counts().stored_steps <= 500 and replay.counts().episodes == 30


def test_each_repair_keeps_its_own_copy_of_what_was_damaged(tmp_path):
    path = fill(tmp_path)[0]
    for count in (1, 2, 3):
        flip(path, records_of(path)[1].start)
        assert open_replay(tmp_path).counts().repaired_records == count
    kept = [f"{path.name}.2.damaged", f"{path.name}.3.damaged", f"{path.name}.damaged"]
    assert sorted(each.name for each in tmp_path.glob("*.damaged")) == kept


def test_many_damaged_records_are_found_in_one_pass(tmp_path):
    path = fill(tmp_path, episodes=1, rows=40, chunk=1)[0]
    content = bytearray(path.read_bytes())
    for record in records_of(path)[::2]:
        content[record.start] ^= 1
    path.write_bytes(content)
    counts = open_replay(tmp_path).counts()
    assert (counts.stored_steps, counts.repaired_records) == (20, 20)


# What rots after it was written


def test_a_rotten_payload_is_seen_when_its_record_is_first_read(tmp_path):
    path = fill(tmp_path)[0]
    flip(path, records_of(path)[2].payload_at + 5)
    records = open_segments(tmp_path, LAYOUT).records
    assert [record.is_intact() for record in records[:5]] == [True, True, False, True, True]


def test_a_record_is_read_once_only(tmp_path):
    path = fill(tmp_path)[0]
    record = open_segments(tmp_path, LAYOUT).records[0]
    assert not record.is_checked and record.is_intact() and record.is_checked
    with path.open("r+b") as file:
        file.seek(record.payload_at)
        file.write(b"later")
    assert record.is_intact()


def test_records_of_the_newest_segment_and_new_ones_need_no_reading(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 5))
    replay.close()
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 5, 5))
    assert all(record.is_checked for record in replay._index.episodes[0].records)


def test_a_rotten_record_is_cut_out_and_the_others_stay_readable(tmp_path, caplog):
    path = fill(tmp_path)[0]
    rotten = records_of(path)[1]
    flip(path, rotten.payload_at)
    opened = open_segments(tmp_path, LAYOUT)
    segment, record = opened.segments[0], opened.records[1]
    assert segment.holds(record) and not opened.segments[1].holds(record)
    segment.remove(record)
    assert (segment.rows, segment.num_records) == (28, 4)
    assert segment.end == path.stat().st_size
    assert path.with_name(path.name + ".damaged").exists()
    assert f"{path}: bytes {record.start} to {record.end}" in caplog.text
    assert all(other.is_intact() for other in opened.records if other is not record)
    again = open_segments(tmp_path, LAYOUT)
    assert [other.first_step for other in again.records[:4]] == [0, 14, 21, 0]
    assert not again.is_repaired and again.segments[0].end == segment.end


def test_two_rotten_records_of_a_segment_are_cut_out_one_after_the_other(tmp_path):
    path = fill(tmp_path)[0]
    for rotten in records_of(path)[:2]:
        flip(path, rotten.payload_at)
    opened = open_segments(tmp_path, LAYOUT)
    for record in opened.records[:2]:
        opened.segments[0].remove(record)
    assert opened.segments[0].end == path.stat().st_size
    assert [other.first_step for other in records_of(path)] == [14, 21, 0]


def test_a_rotten_record_that_cannot_be_cut_out_is_forgotten_all_the_same(tmp_path, caplog):
    path = fill(tmp_path)[0]
    opened = open_segments(tmp_path, LAYOUT)
    path.unlink()
    opened.segments[0].remove(opened.records[0])
    assert opened.segments[0].rows == 28 and "stays in the file" in caplog.text


def test_sampling_leaves_out_a_record_that_rotted_and_draws_on(tmp_path, caplog):
    path = fill(tmp_path)[0]
    flip(path, records_of(path)[1].payload_at)  # rows 7 to 13 of episode 0
    replay = open_replay(tmp_path)
    episode, step = draw_many(replay, 30)
    drawn = set(zip(episode.ravel().tolist(), step.ravel().tolist(), strict=True))
    lost = {(0, step) for step in range(7, 14)}
    assert drawn == {(episode, step) for episode in range(4) for step in range(28)} - lost
    counts = replay.counts()
    assert (counts.stored_steps, counts.stored_episodes, counts.repaired_records) == (105, 5, 1)
    assert counts.short_episodes == 1 and str(path) in caplog.text
    replay.close()
    assert open_replay(tmp_path).counts().stored_steps == 105


def test_sampling_is_refused_when_too_little_is_left_of_what_rotted(tmp_path):
    path = fill(tmp_path, episodes=1, rows=41)[0]
    for record in records_of(path):
        flip(path, record.payload_at)
    replay = open_replay(tmp_path)
    with pytest.raises(ValueError, match="6 rows in 1 episodes are held"):
        replay.sample(0, seed=0)
    assert replay.insert(rows_of(1, 0, 20)) and replay.can_sample()
