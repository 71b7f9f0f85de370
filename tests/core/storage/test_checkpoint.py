"""Checkpoints: whole or not at all, verified before they are used; in a directory and by URL."""

import errno
import hashlib
import io
import itertools
import json
import logging
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer_core.storage.checkpoint import CheckpointCorrupt, Manifest, load, newest, save
from dreamer_core.storage.store import LocalStore, StoreUnavailable
from tests.core.storage.saved_steps import (
    FACTS,
    blob_of,
    change,
    flip,
    is_step,
    manifest_of,
    save_steps,
    steps_in,
    tensors_of,
)


class Around:
    """A store that does something before each operation on another."""

    def __init__(self, inner, before):
        self._inner, self._before = inner, before
        self.location = inner.location

    def names(self):
        return self._inner.names()

    def read(self, name):
        self._before("read", name)
        return self._inner.read(name)

    def write(self, name, content):
        self._before("write", name)
        self._inner.write(name, content)

    def delete(self, name):
        self._before("delete", name)
        self._inner.delete(name)


# Saving and loading


def test_what_is_saved_is_loaded(store):
    save_steps(store, 12)
    found = load(store)
    assert found.location == f"{store.location}/000000000012"
    assert is_step(found, 12)


def test_optimizer_and_module_states_round_trip(store):
    module = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    adam.step()
    states = {"module": module.state_dict(), "adam": adam.state_dict()}
    save(store, step=1, tensors=states, facts={}, keep=1)
    found = load(store)
    adam.load_state_dict(found.tensors["adam"])
    module.load_state_dict(found.tensors["module"])


def test_where_nothing_was_saved_there_is_none(store):
    assert load(store) is None and newest(store) is None


def test_an_unfinished_first_save_is_none(store):
    store.write("000000000001/tensors-0123456789abcdef.pt", b"half")
    assert load(store) is None


def test_a_step_that_is_not_there_is_refused_with_those_that_are(store):
    save_steps(store, 1, 2)
    assert is_step(load(store, step=1), 1)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 7 .*\[2, 1\]"):
        load(store, step=7)


def test_the_newest_is_known_without_its_tensors(store):
    save_steps(store, 1, 2)
    store.write(blob_of(store, 2), b"")
    found = newest(store)
    assert (found.step, found.index, found.facts) == (2, 2, FACTS)
    store.write(manifest_of(2), b"")
    assert newest(store).step == 1


@pytest.mark.parametrize(
    "arguments", [{"step": -1, "keep": 1}, {"step": 1, "keep": 0}, {"keep_every": 0}]
)
def test_a_step_below_zero_and_keeping_none_are_refused(store, arguments):
    with pytest.raises(ValueError, match=r"step=.* keep=.* keep_every=") as raised:
        save(store, **{"step": 1, "tensors": {}, "facts": {}, "keep": 1, **arguments})
    assert all(f"{name}={value} " in str(raised.value) for name, value in arguments.items())


# What stays


def test_the_newest_are_kept(store):
    save_steps(store, 1, 2, 3, 4, 5, keep=2)
    assert steps_in(store) == [4, 5] and load(store).step == 5


def test_every_nth_stays_for_good_however_often_the_run_is_resumed(store):
    for step in range(10, 120, 10):  # each save knows nothing but what the store holds
        save_steps(store, step, keep=2, keep_every=3)
    assert steps_in(store) == [30, 60, 90, 100, 110]


def test_a_step_that_is_saved_again_counts_once(store):
    save_steps(store, 1, 1, 1, 2, 3, keep=1, keep_every=2)
    assert steps_in(store) == [2, 3]


def test_the_count_goes_on_past_a_damaged_manifest(store):
    save_steps(store, 1, 2)
    store.write(manifest_of(2), b"")
    save_steps(store, 3)
    assert newest(store).index == 2


def test_what_was_marked_stays_when_the_rule_is_given_up_and_a_mark_may_be_set_by_hand(store):
    save_steps(store, 1, 2, keep_every=2)
    store.write("000000000001/KEEP", b"")
    save_steps(store, 3, 4, 5, keep=1)
    assert steps_in(store) == [1, 2, 5]
    assert is_step(load(store, step=1), 1) and is_step(load(store, step=2), 2)


def test_after_going_back_the_abandoned_future_is_deleted_but_for_what_is_marked(store):
    save_steps(store, 100, 200, 300, 400)
    store.write("000000000300/KEEP", b"")
    save_steps(store, 250)
    assert steps_in(store) == [200, 250, 300] and load(store).step == 250


def test_a_step_that_is_saved_again_is_replaced_and_nothing_of_the_old_stays(store):
    save_steps(store, 1)
    old = blob_of(store, 1)
    save(store, step=1, tensors={"weight": torch.zeros(1)}, facts={}, keep=3)
    assert load(store).facts == {} and blob_of(store, 1) != old
    assert len(store.names()) == 3


def test_saving_over_a_damaged_step_mends_it(store):
    save_steps(store, 1)
    flip(store, blob_of(store, 1), 100)
    save_steps(store, 1)
    assert is_step(load(store), 1)


def test_files_of_others_in_the_same_place_are_left_alone(store):
    foreign = ["thesis.pdf", "000000000001/notes.txt", "12/manifest.json", "other/tensors.pt"]
    for name in foreign:
        store.write(name, b"mine")
    save_steps(store, 1, 2, 3, keep=1)
    assert set(foreign) < set(store.names()) and load(store).step == 3


# Crashes


class PowerCutError(Exception):
    """Ends the process between two operations."""


def power_cut_after(operations):
    left = itertools.count(operations, -1)

    def before(operation, name):
        if operation != "read" and next(left) == 0:
            raise PowerCutError

    return before


@pytest.mark.parametrize(("step", "operations"), [(20, 6), (10, 5)], ids=["new", "again"])
def test_a_crash_between_any_two_operations_leaves_the_old_or_the_new_one(
    make_store, step, operations
):
    for done in range(operations):
        inner = make_store(f"{step} {done}")
        save(inner, step=10, tensors=tensors_of(11), facts={"is_old": True}, keep=1)
        with pytest.raises(PowerCutError):
            save_steps(Around(inner, power_cut_after(done)), step, keep=1, keep_every=1)
        found = load(inner)
        if found.facts == {"is_old": True}:
            assert torch.equal(found.tensors["weight"], tensors_of(11)["weight"])
        else:
            assert is_step(found, step)
        save_steps(inner, step, keep=1)
        assert is_step(load(inner), step)
    save_steps(Around(make_store("whole"), power_cut_after(operations)), step, keep=1, keep_every=1)


def test_what_an_interrupted_save_left_is_gone_after_the_next(store):
    save_steps(store, 1)
    for left in ("000000000002/tensors-0123456789abcdef.pt", "000000000002/KEEP",
                 "000000000003/.temporary-manifest.json", "000000000001/.temporary-KEEP",
                 "000000000001/tensors-0123456789abcdef.pt"):  # fmt: skip
        store.write(left, b"half")
    save_steps(store, 4)
    assert steps_in(store) == [1, 4] and is_step(load(store, step=1), 1)
    assert len(store.names()) == 5


def test_kills_at_any_moment_leave_a_whole_checkpoint(tmp_path):
    store = LocalStore(tmp_path)
    save_steps(store, 1)
    rng = np.random.default_rng(0)
    for _ in range(15):
        before = load(store).step
        pid = os.fork()
        if pid == 0:
            try:
                save_steps(store, *range(before, before + 10_000), keep=2, keep_every=10)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.01, 0.2))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = load(store)
        assert found.step >= before and is_step(found, found.step)
    assert found.step > 1


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
    with pytest.raises(type(error), match=str(error.args[-1])):
        load(Around(store, before))


def test_a_bad_sector_is_damage(store, caplog):
    def before(_operation, name):
        if name == manifest_of(2):
            raise OSError(errno.EIO, "Input/output error")

    save_steps(store, 1, 2)
    assert is_step(load(Around(store, before)), 1) and "Input/output error" in caplog.text
