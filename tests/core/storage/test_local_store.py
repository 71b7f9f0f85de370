"""A directory of checkpoints: crashes between system calls, and full and read-only disks."""

import itertools
import os
from pathlib import Path

import pytest

from dreamer_core.config import CheckpointConfig
from dreamer_core.errors import BadInput, StorageFailed
from dreamer_core.storage.checkpoint import load, save
from dreamer_core.storage.store import (
    LocalStore,
    open_store,
    require_writable,
)
from tests.core.storage.saved_steps import is_step, save_steps, steps_in
from tests.disks import make_read_only, make_writable, small_disk

NAME = "000000000001/manifest.json"
PAGES_OF_A_STEP = 3


class PowerCutError(Exception):
    """Ends the process between two calls of the operating system."""


def test_a_crash_between_any_two_system_calls_leaves_the_old_or_the_new_content(
    tmp_path, monkeypatch
):
    for done in itertools.count():
        store = LocalStore(tmp_path / str(done))
        store.write(NAME, b"old")
        with monkeypatch.context() as patch:
            left = itertools.count(done, -1)
            for owner, call in ((os, "fsync"), (Path, "replace"), (Path, "open"), (os, "close")):
                patch.setattr(owner, call, dies_after(getattr(owner, call), left))
            try:
                store.write(NAME, b"new")
                break
            except PowerCutError:
                pass
        assert store.read(NAME) in (b"old", b"new")
        store.write(NAME, b"newer")
        assert store.names() == [NAME] and store.read(NAME) == b"newer"
    assert done == 5  # open, flush, rename, flush the name, close the directory


def dies_after(call, left):
    def run(*arguments, **options):
        if next(left) == 0:
            raise PowerCutError
        return call(*arguments, **options)

    return run


def test_each_write_is_flushed_before_it_is_renamed_and_the_rename_after(tmp_path, monkeypatch):
    store, tape = LocalStore(tmp_path), []
    store.write("LATEST", b"1")

    rename = Path.replace

    def replace(path, target):
        tape.append(f"rename to {target.name}")
        return rename(path, target)

    def flush(fd):
        tape.append(f"flush {Path(f'/proc/self/fd/{fd}').readlink().name}")

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", replace)
    store.write(NAME, b"")
    directory = "000000000001"
    assert tape == [
        f"flush {tmp_path.name}",  # the name of the new directory
        "flush .temporary-manifest.json",
        "rename to manifest.json",
        f"flush {directory}",
    ]


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=1) as path:
        yield path


def fill(path, *, free_bytes):
    """Fills the disk up to so many bytes."""
    usage = os.statvfs(path.parent)
    path.write_bytes(bytes(usage.f_bavail * usage.f_bsize - free_bytes))
    assert os.statvfs(path.parent).f_bavail * usage.f_bsize == free_bytes


@pytest.mark.parametrize("free_pages", range(8))
def test_wherever_the_disk_runs_full_the_checkpoint_before_stays_and_saving_goes_on(
    disk, free_pages
):
    store = LocalStore(disk / "checkpoints")
    save_steps(store, 1, keep=1)
    fill(disk / "filler", free_bytes=4096 * free_pages)
    if free_pages < PAGES_OF_A_STEP:
        with pytest.raises(OSError, match="checkpoint 2 failed: No space left on device; free"):
            save_steps(store, 2, keep=1)
        assert is_step(load(store), 1)
        (disk / "filler").unlink()
    save_steps(store, 2, keep=1)
    assert is_step(load(store), 2) and steps_in(store) == [2]


def test_a_disk_that_becomes_read_only_is_named_and_the_checkpoint_before_stays(disk):
    store = LocalStore(disk / "checkpoints")
    save_steps(store, 1)
    make_read_only(disk)
    with pytest.raises(OSError, match="saving checkpoint 2 failed: Read-only file system"):
        save_steps(store, 2)
    with pytest.raises(BadInput, match=r"Read-only file system\. Make room, mend its permissions"):
        require_writable(store)
    assert is_step(load(store), 1)
    make_writable(disk)
    save_steps(store, 2)
    assert is_step(load(store), 2)


def test_a_run_directory_that_went_away_is_told_and_not_made_anew(tmp_path):
    run_dir, moved = tmp_path / "run", tmp_path / "moved"
    run_dir.mkdir()
    store = open_store(CheckpointConfig(), run_dir / "checkpoints")
    save(store, step=1, tensors={}, facts={}, keep=1)
    run_dir.rename(moved)
    with pytest.raises(StorageFailed, match=r"renamed or unmounted .*: put it back and try again"):
        save(store, step=2, tensors={}, facts={}, keep=1)
    assert not run_dir.exists()
    moved.rename(run_dir)
    save(store, step=2, tensors={}, facts={}, keep=1)


def test_a_place_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="saving checkpoint 1 failed") as raised:
        save(LocalStore(tmp_path / "file"), step=1, tensors={}, facts={}, keep=1)
    assert str(tmp_path / "file") in str(raised.value)
