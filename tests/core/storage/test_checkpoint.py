"""Checkpoints: saved whole or not at all, and which of them stay; in a directory and by URL."""

import itertools
import os
import signal
import time

import numpy as np
import pytest
import torch

from dreamer_core.errors import BadInput
from dreamer_core.storage.checkpoint import load, newest, save
from dreamer_core.storage.store import LocalStore
from tests.core.storage.saved_steps import (
    FACTS,
    Around,
    blob_of,
    flip,
    is_step,
    manifest_of,
    save_steps,
    steps_in,
    tensors_of,
)

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
    with pytest.raises(BadInput, match=r"no checkpoint 7 .*\[2, 1\]"):
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
    for number in range(15):
        before = load(store).step
        pid = os.fork()
        if pid == 0:
            try:
                save_steps(store, *range(before, before + 10_000), keep=2, keep_every=10)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.01, 0.2))
        give_up_s = time.monotonic() + 60
        while number == 0 and int(store.read("LATEST")) == before:  # the first comes to save
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = load(store)
        assert found.step >= before and is_step(found, found.step)
    assert found.step > 1
