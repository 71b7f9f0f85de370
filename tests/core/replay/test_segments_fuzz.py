"""Whatever happens to segment files, the replay opens and serves only rows that were stored.

Damage is done to copies of two directories in each format: one that was closed, and one whose
process was killed, with a hole at the end of its newest file. Only renamed files are refused.
"""

import re
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer_core.replay.format import decode_chunk, read_file_header
from dreamer_core.replay.replay import Replay
from dreamer_core.replay.survey import SegmentsRenamed, map_file, scan
from dreamer_core.types import EpisodeChunk
from tests.core.replay.counting import format_1
from tests.core.replay.damage import (
    CHUNK,
    CONFIG,
    DAMAGES,
    FILE_KINDS,
    LAYOUT,
    LENGTHS,
    ROWS,
    a_record,
    apply,
    chunk_of,
    fill,
    open_replay,
)


@pytest.fixture(scope="module")
def directories(tmp_path_factory) -> list[Path]:
    """Closed and killed in the format of now, closed and killed in format 1."""
    root = tmp_path_factory.mktemp("fuzz")
    found: list[Path] = []
    for name, as_written in (("now", nullcontext()), ("1", format_1())):
        closed, killed = root / name / "closed", root / name / "killed"
        with as_written:
            replay = fill(closed)
            shutil.copytree(closed, killed)
            replay.close()
        assert len(list(closed.iterdir())) == 3
        found += [closed, killed]
    return found


def records_of(path: Path):
    data = map_file(path)
    return scan(data, read_file_header(data), is_payload_checked=False).records


# What must hold afterwards


def check_index(replay: Replay) -> None:
    """Checks what is held, and every row whose checksum was compared."""
    places: set[tuple[int, int, int]] = set()
    for episode in replay._index.episodes:
        assert episode.records
        expected = episode.first_steps[0]
        for record, first_step in zip(episode.records, episode.first_steps, strict=True):
            assert (*episode.key, first_step) == record.place and first_step == expected
            expected = first_step + record.rows
            places |= {(*episode.key, step) for step in range(first_step, expected)}
            if record.is_checked:
                check_chunk(decode_chunk(record, LAYOUT))
        assert episode.end == expected
    counts = replay.counts()
    rows = [episode.rows for episode in replay._index.episodes]
    assert counts.stored_steps == sum(rows) == len(places)
    assert counts.stored_episodes == len(rows)
    assert counts.short_episodes == sum(
        episode.is_closed and episode.rows < CONFIG.batch_length
        for episode in replay._index.episodes
    )
    assert counts.policy_steps + counts.episodes + 1 >= counts.stored_steps
    assert counts.episodes >= 0


def check_chunk(chunk: EpisodeChunk) -> None:
    """Whether it is bit for bit what was stored there."""
    expected = chunk_of(chunk.incarnation, chunk.episode, chunk.first_step, len(chunk))
    for field in fields(EpisodeChunk):
        got, wanted = getattr(chunk, field.name), getattr(expected, field.name)
        assert np.array_equal(got, wanted) and np.asarray(got).dtype == np.asarray(wanted).dtype


def check_samples(replay: Replay) -> None:
    """Every row of some batches is one that was stored, next to its neighbour of then."""
    for gradient_step in range(6):
        if not replay.can_sample():
            return
        batch = replay.sample(gradient_step, seed=0)
        place = batch.image.reshape(-1, 4)[:, :3].astype(int)
        is_first = batch.is_first.ravel()
        assert (batch.reward.ravel() == place @ [10_000, 100, 1]).all()
        assert (batch.prev_action.reshape(-1, 3) == place * ~is_first[:, None]).all()
        assert ((place[1:] - place[:-1] == [0, 0, 1]).all(1) | is_first[1:]).all()
        assert batch.is_first[:, 0].all()


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def check_opening(directory: Path) -> None:
    replay = open_replay(directory)
    check_index(replay)
    check_samples(replay)
    check_index(replay)
    before = replay.counts()
    incarnation = (before.last_incarnation or 0) + 1
    for step in range(0, 2 * CONFIG.segment_steps, CHUNK):
        assert replay.insert(chunk_of(max(incarnation, len(LENGTHS)), 0, step, CHUNK))
    assert replay.counts().stored_steps == before.stored_steps + 2 * CONFIG.segment_steps
    check_index(replay)
    check_samples(replay)
    check_index(replay)
    replay.close()
    counts, names = replay.counts(), names_in(directory)
    again = open_replay(directory)
    check_index(again)
    assert replace(again.counts(), repaired_records=counts.repaired_records) == counts
    assert again.counts().repaired_records <= counts.repaired_records
    assert names_in(directory) == names
    again.close()
    sizes = [path.stat().st_size for path in directory.glob("*.segment")]
    assert counts.stored_bytes == sum(sizes)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def do_as_told(refusal: SegmentsRenamed, directory: Path) -> None:
    """Gives the files that the refusal names, in their order, names that grow."""
    moved = re.findall(r"\d{8}\.segment", str(refusal))
    files = contents(directory)
    for name, right in zip(moved, sorted(moved), strict=True):
        (directory / right).write_bytes(files[name])


# The tests


@settings(max_examples=300, deadline=None)
@given(damages=st.lists(DAMAGES, max_size=4), source=st.integers(0, 3))
def test_any_damage_leaves_a_replay_that_opens_and_serves_nothing_wrong(
    directories, damages, source
):
    source = directories[source]
    whole = [records_of(path) for path in sorted(source.iterdir())]
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    for damage in damages:
        apply(damage, files, whole)
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        try:
            check_opening(Path(name))
        except SegmentsRenamed as refusal:
            kinds = [damage.kind for damage in damages]
            assert "swap" in kinds or (len(kinds) > 1 and {*FILE_KINDS} & {*kinds})
            assert contents(Path(name)) == files
            do_as_told(refusal, Path(name))
            check_opening(Path(name))


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), source=st.integers(0, 3))
def test_one_flipped_bit_costs_its_record_or_where_a_file_begins_its_file(
    directories, at, bit, source
):
    source = directories[source]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(shutil.copytree(source, name, dirs_exist_ok=True))
        paths = sorted(directory.iterdir())
        path = paths[at % len(paths)]
        content = bytearray(path.read_bytes())
        content[at // 3 % len(content)] ^= 1 << bit
        lost = _owner_rows(path, at // 3 % len(content))
        path.write_bytes(content)
        replay = open_replay(directory)
        check_index(replay)
        left = sum(
            record.rows
            for episode in replay._index.episodes
            for record in episode.records
            if record.is_intact()
        )
        assert left == ROWS - lost


def _owner_rows(path: Path, at: int) -> int:
    """Rows that are lost with the byte: of its record, of the whole file, or none in the hole."""
    records = records_of(path)
    if at in range(20, 24):  # the second checksum of the file header, which guards no payload
        return 0
    if at < records[0].start:
        return sum(record.rows for record in records)
    return sum(record.rows for record in records if record.start <= at < record.end)


@pytest.mark.parametrize("number", [7, 1])
def test_a_copied_file_is_set_aside_and_its_rows_count_once(directories, tmp_path, number, caplog):
    directory = shutil.copytree(directories[0], tmp_path / "copy")
    source = directory / "00000000.segment"
    copy = directory / f"{number:08d}.segment"
    is_over = copy.exists()
    lost = sum(record.rows for record in records_of(copy)) if is_over else 0
    shutil.copyfile(source, copy)
    replay = open_replay(directory)
    assert replay.counts().stored_steps == ROWS - lost
    assert replay.counts().repaired_records == 1
    assert copy.with_name(copy.name + ".damaged").exists()
    assert f"{copy} begins at the same row as {source.name}" in caplog.text


def test_an_episode_that_lost_its_first_record_still_counts(tmp_path):
    replay = open_replay(tmp_path)
    for step in range(0, 15, CHUNK):
        replay.insert(chunk_of(2, 0, step, CHUNK))
    before = replay.counts()
    replay.close()
    path = tmp_path / "00000000.segment"
    start, record = a_record(records_of(path), 0)
    content = bytearray(path.read_bytes())
    content[start : start + len(record)] = bytes(len(record))
    path.write_bytes(content)
    counts = open_replay(tmp_path).counts()
    assert (before.episodes, counts.episodes) == (0, 0) and counts.stored_steps == 10


def test_zeros_at_the_end_of_an_older_file_are_damage_and_not_its_unused_part(
    directories, tmp_path
):
    directory = shutil.copytree(directories[0], tmp_path / "copy")
    path = directory / "00000001.segment"
    lost, content = records_of(path)[-1], bytearray(path.read_bytes())
    content[lost.start :] = bytes(len(content) - lost.start)
    path.write_bytes(content)
    counts = open_replay(directory).counts()
    assert (counts.stored_steps, counts.repaired_records) == (ROWS - lost.rows, 1)
    assert path.stat().st_size == lost.start
