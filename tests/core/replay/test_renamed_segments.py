"""Segment files under other names than they were written with: refused, and nothing changed."""

import re
import shutil
from itertools import permutations

import pytest

from dreamer_core.replay.reader import ReplayFiles
from dreamer_core.replay.replay import Replay
from dreamer_core.replay.rewind import ReplayPosition, RewindTarget
from dreamer_core.replay.survey import SegmentsRenamed
from tests.core.replay.counting import CONFIG, SHAPE, fill, open_replay


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("order", list(permutations(range(4)))[1:], ids=str)
def test_files_whose_names_were_swapped_are_refused_with_the_order_of_writing(tmp_path, order):
    written = fill(tmp_path / "written")
    directory = tmp_path / "swapped"
    directory.mkdir()
    for path, number in zip(written, order, strict=True):
        shutil.copyfile(path, directory / f"{number:08d}.segment")
    before = contents(directory)
    moved = ", ".join(f"{n:08d}.segment" for at, n in enumerate(order) if n != at)
    for open_it in (open_replay, ReplayFiles):
        with pytest.raises(SegmentsRenamed, match=f"renamed: {moved} were written in this order"):
            open_it(directory)
    assert contents(directory) == before


def test_a_file_that_was_renamed_behind_the_others_is_refused_until_it_has_a_number_before_them(
    tmp_path,
):
    first = fill(tmp_path)[0]
    moved = first.rename(tmp_path / "00000009.segment")
    with pytest.raises(SegmentsRenamed, match=f"{moved.name}, 00000001.segment, 00000002"):
        open_replay(tmp_path)
    moved.rename(first)
    assert open_replay(tmp_path).counts().stored_steps == 4 * 28


@pytest.mark.parametrize("name", ["1.segment", "000000007.segment", "00000001 (copy).segment"])
def test_a_segment_file_under_a_name_that_is_no_number_of_eight_digits_is_refused(tmp_path, name):
    stray = fill(tmp_path)[1].rename(tmp_path / name)
    before = contents(tmp_path)
    for open_it in (open_replay, ReplayFiles):
        with pytest.raises(SegmentsRenamed, match=f"holds {re.escape(stray.name)}, but"):
            open_it(tmp_path)
    assert contents(tmp_path) == before


def test_gaps_between_the_numbers_are_no_matter(tmp_path):
    paths = fill(tmp_path)
    for path in reversed(paths):
        path.rename(path.with_stem(f"{10 * int(path.stem) + 5:08d}"))
    assert open_replay(tmp_path).counts().stored_steps == 4 * 28


def test_a_copy_over_an_older_file_is_a_copy_and_no_renamed_file(tmp_path):
    first, _, third, *_ = fill(tmp_path)
    shutil.copyfile(third, first)
    counts = open_replay(tmp_path).counts()
    assert (counts.stored_steps, counts.repaired_records) == (4 * 28 - 35, 1)
    assert third.exists() and not first.exists()


def test_nothing_is_rewound_under_names_that_were_swapped(tmp_path):
    first, *_, newest = fill(tmp_path)
    target = RewindTarget(
        position=ReplayPosition(segments=(0,), end_bytes=newest.stat().st_size), incarnation=0
    )
    swap = tmp_path / "swap"
    for path, other in ((first, swap), (newest, first), (swap, newest)):
        path.rename(other)
    before = contents(tmp_path)
    with pytest.raises(SegmentsRenamed):
        Replay(tmp_path, CONFIG, image_shape=SHAPE, action_size=2, target=target)
    assert contents(tmp_path) == before
