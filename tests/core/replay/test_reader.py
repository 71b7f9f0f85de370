"""A replay read from beside: what it holds, what is damaged, and episodes for other tools."""

import os
import resource
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from dreamer_core.errors import BadInput
from dreamer_core.replay.format import decode_chunk, read_file_header
from dreamer_core.replay.reader import (
    Damage,
    ExportedEpisode,
    NoReplay,
    ReplayFiles,
    newest_image,
    read_episode,
)
from dreamer_core.replay.survey import FileReads, scan
from tests.core.replay.counting import (
    CONFIG,
    fill,
    flip,
    insert_episode,
    open_replay,
    records_of,
    rows_of,
)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.iterdir()}


def exported(files: ReplayFiles, to: Path, **options) -> list[ExportedEpisode | Damage]:
    return list(files.export(to, **options))


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


# What is held


def test_the_summary_is_what_the_replay_itself_counts(tmp_path):
    replay = open_replay(tmp_path, replace(CONFIG, capacity_steps=500))
    for episode in range(40):
        insert_episode(replay, episode, rows=30)
    files, counts = ReplayFiles(tmp_path), replay.counts()
    segments = files.segments()
    assert sum(segment.rows for segment in segments) == counts.stored_steps
    assert sum(segment.bytes for segment in segments) == counts.stored_bytes
    assert (files.totals.policy_steps, files.totals.episodes) == (40 * 29, 40)
    assert all(segment.lost_rows == 0 for segment in segments)  # evicted rows are not lost
    keys = {record.episode_key for record in files.records}
    assert len(keys) == counts.stored_episodes


def test_a_running_replay_is_read_without_locking_or_changing_it(tmp_path):
    replay = open_replay(tmp_path)
    replay.insert(rows_of(0, 0, 9))
    before = contents(tmp_path)
    files = ReplayFiles(tmp_path)
    assert [segment.state for segment in files.segments()] == ["being written"]
    assert files.damage() == [] and not files.is_tail_torn
    assert contents(tmp_path) == before and replay.insert(rows_of(0, 9, 9))


def test_files_that_a_run_evicts_meanwhile_are_still_read(tmp_path):
    paths = fill(tmp_path / "replay")
    files = ReplayFiles(tmp_path / "replay")
    for path in paths:
        path.unlink()
    episodes = exported(files, tmp_path / "out")
    assert len(episodes) == 4 and all(episode.rows == 28 for episode in episodes)


def test_a_file_that_is_cut_while_it_is_read_only_gives_fewer_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    reads = FileReads(path)
    os.truncate(path, 10)
    assert len(reads) == 100_000 and reads[5:50_000] == bytes(5)


def test_a_directory_without_segments_is_refused(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NoReplay, match=f"{directory} holds none; name a run"):
            ReplayFiles(directory)


# What is damaged


def test_a_torn_record_at_the_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamer_core.replay.reader._WRITE_PATIENCE_S", 0.0)
    path = fill(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-9])
    files = ReplayFiles(tmp_path)
    assert files.is_tail_torn and files.segments()[-1].state == "damaged"
    assert [(each.path, each.end) for each in files.damage()] == [(path, path.stat().st_size)]


def test_a_record_that_is_being_written_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamer_core.replay.reader._WRITE_LOOKS", 300)
    path = fill(tmp_path)[-1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])

    def write_the_rest():
        with path.open("ab") as file:
            file.write(whole[-9:])

    writer = threading.Timer(0.3, write_the_rest)
    writer.start()
    files = ReplayFiles(tmp_path)
    writer.join()
    assert not files.is_tail_torn and files.damage() == []


def test_a_rotten_payload_is_named_by_file_and_bytes(tmp_path):
    path = fill(tmp_path)[1]
    record = records_of(path)[2]
    flip(path, record.payload_at + 3)
    files = ReplayFiles(tmp_path)
    found = [each for each in files.verify() if isinstance(each, Damage)]
    assert files.damage() == []  # verify alone reads the older payloads
    assert [(each.path, each.start, each.end) for each in found] == [
        (path, record.start, record.end)
    ]


def test_a_foreign_file_is_named_and_stays_where_it_is(tmp_path):
    fill(tmp_path)
    path = tmp_path / "00000009.segment"
    path.write_bytes(b"not a segment at all")
    before = contents(tmp_path)
    (damage,) = ReplayFiles(tmp_path).damage()
    assert (damage.path, damage.end) == (path, 20) and "not a replay segment" in damage.reason
    assert contents(tmp_path) == before


def test_rows_of_a_deleted_file_are_told_as_lost(tmp_path):
    fill(tmp_path)[1].unlink()
    assert [segment.lost_rows for segment in ReplayFiles(tmp_path).segments()] == [0, 35, 0]


# Episodes for other tools


def test_an_exported_episode_holds_every_column_as_it_was_stored(tmp_path):
    fill(tmp_path / "replay", episodes=3, rows=28)
    episodes = exported(ReplayFiles(tmp_path / "replay"), tmp_path / "out")
    assert episodes[1].path.name == (
        "incarnation0000-episode000001-step000000-length27-return28378.npz"
    )
    found, expected = load(episodes[1].path), rows_of(1, 0, 28, end="terminal")
    for name in set(found) - {"is_complete"}:
        assert np.array_equal(found.pop(name), getattr(expected, name))
    assert found == {"is_complete": True}


def test_an_exported_episode_is_read_as_a_batch_of_one_sequence(tmp_path):
    replay = open_replay(tmp_path / "replay")
    replay.insert(rows_of(0, 0, 9))
    (written,) = exported(ReplayFiles(tmp_path / "replay"), tmp_path / "to")
    batch, columns = read_episode(written.path), load(written.path)
    assert batch.image.shape[:2] == (1, 9) and batch.is_first[0].tolist()[:2] == [1, 0]
    for field in fields(batch):
        column = getattr(batch, field.name)
        assert column is columns.get(field.name) or np.array_equal(column[0], columns[field.name])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"text", "npy", "npz"])
def test_what_is_no_exported_episode_is_refused(tmp_path, content):
    path = tmp_path / "episode.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with path.open("wb") as file:
            (np.save if content == "npy" else np.savez)(file, np.zeros(3))
    with pytest.raises(BadInput, match="episode"):
        read_episode(path)


def test_only_the_newest_episodes_are_exported_on_request(tmp_path):
    fill(tmp_path / "replay", episodes=5)
    files = ReplayFiles(tmp_path / "replay")
    for newest, expected in ((1, [4]), (2, [3, 4]), (9, [0, 1, 2, 3, 4]), (None, list(range(5)))):
        episodes = exported(files, tmp_path / f"out{newest}", newest=newest)
        assert [int(load(episode.path)["episode"]) for episode in episodes] == expected


def test_compressed_episodes_are_smaller_and_the_same(tmp_path):
    fill(tmp_path / "replay", episodes=1, rows=400, chunk=40)
    files = ReplayFiles(tmp_path / "replay")
    (plain,) = exported(files, tmp_path / "plain")
    (small,) = exported(files, tmp_path / "small", is_compressed=True)
    assert small.path.stat().st_size < plain.path.stat().st_size
    for name, column in load(plain.path).items():
        assert np.array_equal(load(small.path)[name], column)


def test_an_episode_that_is_open_cut_short_or_without_its_head_is_marked(tmp_path):
    config = replace(CONFIG, capacity_steps=500)
    replay = open_replay(tmp_path / "replay", config)
    insert_episode(replay, 0, rows=300)  # loses its head to eviction
    insert_episode(replay, 1, rows=200, end=None)  # is cut short
    insert_episode(replay, 0, rows=30, incarnation=1, end="limit")
    insert_episode(replay, 1, rows=30, incarnation=1, end=None)  # is open
    episodes = exported(ReplayFiles(tmp_path / "replay"), tmp_path / "out")
    assert [episode.is_complete for episode in episodes] == [False, False, True, False]
    found = [load(episode.path) for episode in episodes]
    assert [int(each["first_step"]) for each in found[1:]] == [0, 0, 0]
    first_step = int(found[0]["first_step"])
    assert first_step > 0 and found[0]["image"][0, 0, 0, 0] == first_step % 256
    assert [bool(each["is_complete"]) for each in found] == [False, False, True, False]


def test_damage_in_the_middle_of_an_episode_gives_two_files_and_is_told(tmp_path):
    path = fill(tmp_path / "replay", episodes=3, rows=28)[0]
    record = records_of(path)[1]  # rows 7 to 13 of episode 0
    flip(path, record.payload_at)
    first, damage, rest, *_ = exported(ReplayFiles(tmp_path / "replay"), tmp_path / "out")
    assert isinstance(damage, Damage) and (damage.path, damage.start) == (path, record.start)
    assert (first.rows, first.is_complete) == (7, False)
    assert (rest.rows, rest.is_complete) == (14, False)
    assert load(rest.path)["first_step"] == 14
    assert "-step000014-length14-" in rest.path.name


def test_export_never_overwrites(tmp_path):
    fill(tmp_path / "replay")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="Name another with --to"):
        exported(ReplayFiles(tmp_path / "replay"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    fill(tmp_path / "replay")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"Wanted to export to .*Not a directory.*Free disk space"):
        exported(ReplayFiles(tmp_path / "replay"), tmp_path / "file" / "out")


def test_a_write_that_fails_leaves_whole_files_only(tmp_path):
    fill(tmp_path / "replay")
    episodes = ReplayFiles(tmp_path / "replay").export(tmp_path / "out")
    whole = next(episodes)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))  # bytes a file may have
    try:
        with pytest.raises(BadInput, match=r"too large\. The \.npz files written before are whole"):
            next(episodes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "out").iterdir()) == [whole.path]


# The newest image


def test_the_newest_image_is_that_of_the_row_stored_last(tmp_path):
    assert newest_image(tmp_path) is None
    replay = open_replay(tmp_path)
    for episode, rows in ((0, 45), (1, 9)):
        insert_episode(replay, episode, rows=rows)
        assert (newest_image(tmp_path) == rows - 1).all()


def test_an_empty_or_damaged_file_has_no_newest_image(tmp_path):
    *_, before, newest = fill(tmp_path)
    flip(newest, newest.stat().st_size - 1)
    assert newest_image(tmp_path) is not None  # that of a record or of a file before it
    newest.write_bytes(b"")
    assert (newest_image(tmp_path) == decoded(before).image[-1]).all()


def decoded(path: Path):
    data = FileReads(path)
    header = read_file_header(data)
    return decode_chunk(scan(data, header, is_payload_checked=True).records[-1], header.layout)
