"""Checkpoints are verified before they are used: damage, content of others, readers beside."""

import errno
import hashlib
import io
import json
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer_core.errors import StorageFailed
from dreamer_core.storage.checkpoint import CheckpointCorrupt, Manifest, load, save
from dreamer_core.storage.store import StoreUnavailable
from tests.core.storage.saved_steps import (
    Around,
    blob_of,
    change,
    flip,
    is_step,
    manifest_of,
    save_steps,
)

# Damage


@pytest.mark.parametrize("file", [blob_of, lambda _, step: manifest_of(step)], ids=["blob", "json"])
def test_a_flipped_bit_is_named_and_the_checkpoint_before_is_used(store, caplog, file):
    save_steps(store, 1, 2)
    name = file(store, 2)
    content = store.read(name)
    for at in range(0, len(content), max(1, len(content) // 40)):
        flip(store, name, at)
        is_same = name == manifest_of(2) and is_same_json(content, store.read(name))
        assert is_step(load(store), 2 if is_same else 1)
        store.write(name, content)
    assert "000000000002 is damaged" in caplog.text
    assert is_step(load(store), 2)


def is_same_json(first: bytes, second: bytes) -> bool:
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


def test_missing_and_short_files_are_damage(store, caplog):
    save_steps(store, 1, 2, 3, 4, keep=4)
    store.delete(manifest_of(4))
    change(store, blob_of(store, 3), lambda blob: blob[:-1])
    store.delete(blob_of(store, 2))
    assert is_step(load(store), 1)
    for words in ("LATEST names checkpoint 4, which is missing", "bytes, wanted", "pt is missing"):
        assert words in caplog.text


def test_if_all_are_damaged_each_is_named(store):
    save_steps(store, 1, 2)
    for step in (1, 2):
        flip(store, blob_of(store, step), 50)
    with pytest.raises(CheckpointCorrupt, match=r"000000000002: .*000000000001: "):
        load(store)


def test_that_all_are_gone_is_no_fresh_start(store):
    save_steps(store, 1)
    for name in (manifest_of(1), blob_of(store, 1)):
        store.delete(name)
    with pytest.raises(CheckpointCorrupt, match="holds nothing but LATEST"):
        load(store)


def test_a_damaged_step_that_was_asked_for_is_not_replaced_by_another(store):
    save_steps(store, 1, 2)
    flip(store, blob_of(store, 2), 50)
    with pytest.raises(CheckpointCorrupt, match="does not match its hash"):
        load(store, step=2)


def test_a_step_under_another_name_is_damage(store):
    save_steps(store, 1)
    store.write(manifest_of(5), store.read(manifest_of(1)))
    with pytest.raises(CheckpointCorrupt, match="of step 1, wanted 5"):
        load(store, step=5)


@pytest.mark.parametrize("content", [b"", b"x\x00", b"\xff", b"77", b"-3"])
def test_a_damaged_latest_is_named_and_the_newest_is_used(store, caplog, content):
    save_steps(store, 1, 2)
    store.write("LATEST", content)
    assert load(store).step == 2 and "LATEST" in caplog.text
    store.delete("LATEST")
    assert load(store).step == 2


def test_another_format_version_is_refused_and_not_taken_for_damage(store):
    save_steps(store, 1, 2)
    write_manifest(store, 2, body_of(store, 2) | {"format_version": 3})
    with pytest.raises(ValueError, match="checkpoint format 3, wanted 2"):
        load(store)


# Content that no `save` wrote, under hashes that are right


def body_of(store, step):
    return {k: v for k, v in json.loads(store.read(manifest_of(step))).items() if k != "sha256"}


def write_manifest(store, step, body):
    body = json.loads(json.dumps(body))
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    store.write(manifest_of(step), json.dumps({**body, "sha256": digest}).encode())


def write_blob(store, step, blob):
    sha256 = hashlib.sha256(blob).hexdigest()
    manifest = Manifest(step, 1, 0.0, {}, len(blob), sha256)
    store.write(manifest.blob, blob)
    store.write(manifest_of(step), manifest.encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": "2"},
        {"format_version": None},
        {"step": "2"},
        {"index": None},
        {"wall_time_s": "now"},
        {"facts": []},
        {"blob_bytes": 1e400},
        {"blob_sha256": "../../../../etc/passwd"},
        {"blob_sha256": "0" * 63 + "\n"},
        {"blob_sha256": None},
    ],
    ids=str,
)
def test_a_senseless_manifest_is_damage_though_its_hash_is_right(store, caplog, changes):
    save_steps(store, 1, 2)
    write_manifest(store, 2, body_of(store, 2) | changes)
    assert is_step(load(store), 1) and "something else than a manifest" in caplog.text


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', '{"sha256": 1}', "[" * 100_000, "\xff"])
def test_what_is_no_manifest_is_damage(store, caplog, text):
    save_steps(store, 1, 2)
    store.write(manifest_of(2), text.encode("latin-1"))
    assert is_step(load(store), 1) and "000000000002 is damaged: manifest.json" in caplog.text


def saved_by_torch(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Bomb:
    """What an attacker pickles: unpickling it makes a directory."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("pickled", [pickle.dumps, saved_by_torch, lambda x: saved_by_torch([x])])
def test_a_pickled_object_is_never_loaded(store, tmp_path, caplog, pickled):
    save_steps(store, 1)
    write_blob(store, 2, pickled(Bomb(tmp_path / "exploded")))
    store.write("LATEST", b"2")
    assert is_step(load(store), 1) and "holds no tensors" in caplog.text
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("blob", [b"", b"\x80", b"PK\x03\x04", saved_by_torch([torch.ones(1)])])
def test_a_blob_that_is_no_dictionary_of_tensors_is_damage(store, caplog, blob):
    save_steps(store, 1)
    write_blob(store, 2, blob)
    store.write("LATEST", b"2")
    assert is_step(load(store), 1)
    assert "holds no tensors" in caplog.text or "holds a list" in caplog.text


def test_what_could_not_be_loaded_safely_is_not_saved(store):
    with pytest.raises(TypeError, match=r"tensors\['a'\]\[0\] is float64"):
        save(store, step=1, tensors={"a": [np.float64(1)]}, facts={}, keep=1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(store, step=1, tensors={}, facts={"path": Path()}, keep=1)
    assert not store.names()


# Readers beside the writer, and places that cannot be read


def test_loading_changes_nothing(store, caplog):
    caplog.set_level(logging.WARNING)
    save_steps(store, 1, 2)
    store.write("000000000003/tensors-0123456789abcdef.pt", b"half")
    before = {name: store.read(name) for name in store.names()}
    assert load(store).step == 2
    assert {name: store.read(name) for name in store.names()} == before and not caplog.messages


@pytest.mark.parametrize("file", ["tensors", "manifest", "LATEST"])
def test_a_step_deleted_under_a_readers_hands_leads_to_another(store, file):
    save_steps(store, 1, 2, keep=2)
    later = iter([3, 4])

    def writer_goes_on(_operation, name):
        if file in name and (step := next(later, None)):
            save_steps(store, step, keep=1)

    assert is_step(load(Around(store, writer_goes_on)), 4)


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), StoreUnavailable("no answer")]
)
@pytest.mark.parametrize("file", ["tensors", "manifest", "LATEST"])
def test_a_place_that_cannot_be_read_is_not_taken_for_a_damaged_checkpoint(store, error, file):
    def before(_operation, name):
        if file in name:
            raise error

    save_steps(store, 1, 2)
    with pytest.raises(StorageFailed, match=str(error.args[-1])):
        load(Around(store, before))


def test_a_bad_sector_is_damage(store, caplog):
    def before(_operation, name):
        if name == manifest_of(2):
            raise OSError(errno.EIO, "Input/output error")

    save_steps(store, 1, 2)
    assert is_step(load(Around(store, before)), 1) and "Input/output error" in caplog.text
