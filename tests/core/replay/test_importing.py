"""Episodes made a replay: exported, stored and exported again they are the same; all or none."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer_core.errors import BadInput, StorageFailed
from dreamer_core.replay.importing import import_episodes
from dreamer_core.replay.reader import ReplayFiles
from dreamer_core.types import EpisodeChunk
from tests.core.replay.counting import (
    CONFIG,
    LAYOUT,
    draw_many,
    flip,
    insert_episode,
    open_replay,
    records_of,
    rows_of,
    segments_in,
)


def exported(directory: Path, to: Path) -> list[EpisodeChunk]:
    """Exports and reads all that is whole."""
    paths = sorted(each.path for each in ReplayFiles(directory).export(to) if hasattr(each, "rows"))
    found = []
    for path in paths:
        with np.load(path) as file:
            columns = {name: file[name] for name in file if name != "is_complete"}
        places = {name: int(columns.pop(name)) for name in ("incarnation", "episode", "first_step")}
        found.append(EpisodeChunk(**places, **columns))
    return found


def test_what_was_evicted_from_damaged_and_cut_short_makes_the_round_trip_exactly(tmp_path):
    replay = open_replay(tmp_path / "a", replace(CONFIG, capacity_steps=500))
    for episode in range(12):
        insert_episode(replay, episode, rows=83, end=None if episode % 3 else "terminal")
    insert_episode(replay, 2, rows=30, incarnation=4, end=None)
    replay.close()
    path = segments_in(tmp_path / "a")[3]
    flip(path, records_of(path)[2].payload_at)
    episodes = exported(tmp_path / "a", tmp_path / "out")
    parts = [each.episode for each in episodes if each.first_step > 0]
    assert len(parts) == 2 and parts[0] == episodes[0].episode  # evicted from, and damaged
    imported = import_episodes(tmp_path / "b", LAYOUT, 40, episodes)
    assert imported.rows == sum(map(len, episodes)) and not list(tmp_path.glob("*.tmp"))
    exported(tmp_path / "b", tmp_path / "again")
    names = sorted(each.name for each in (tmp_path / "out").iterdir())
    assert sorted(each.name for each in (tmp_path / "again").iterdir()) == names
    for name in names:
        with np.load(tmp_path / "out" / name) as a, np.load(tmp_path / "again" / name) as b:
            assert list(a) == list(b) and all(np.array_equal(a[key], b[key]) for key in a)


def test_a_replay_goes_on_from_what_was_imported(tmp_path):
    episodes = [rows_of(0, 0, 150), rows_of(1, 20, 100)]
    imported = import_episodes(tmp_path / "b", LAYOUT, 40, episodes)
    assert (imported.episodes, imported.rows, imported.policy_steps) == (2, 250, 249)
    replay = open_replay(tmp_path / "b")
    counts = replay.counts()
    assert (counts.policy_steps, counts.episodes, counts.stored_steps) == (249, 1, 250)
    assert (counts.last_incarnation, counts.repaired_records) == (0, 0)
    _, steps = draw_many(replay, 5)
    assert (np.diff(steps, axis=1) == 1).all()
    assert replay.insert(rows_of(0, 0, 10, incarnation=1))
    replay.close()
    assert open_replay(tmp_path / "b").counts() == replay.counts()


def test_a_replay_with_rows_is_left_alone(tmp_path):
    import_episodes(tmp_path / "b", LAYOUT, 40, [rows_of(0, 0, 50)])
    before = [path.read_bytes() for path in segments_in(tmp_path / "b")]
    with pytest.raises(BadInput, match="has stored no rows"):
        import_episodes(tmp_path / "b", LAYOUT, 40, [rows_of(0, 0, 60)])
    assert [path.read_bytes() for path in segments_in(tmp_path / "b")] == before


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    write, calls = os.pwrite, []

    def fail_later(fd, data, at):
        calls.append(at)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", fail_later)
    with pytest.raises(StorageFailed, match="free disk space"):
        import_episodes(tmp_path / "b", LAYOUT, 40, [rows_of(e, 0, 100) for e in range(4)])
    assert not list(tmp_path.iterdir())
