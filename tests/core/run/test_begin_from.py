"""A run that begins with the networks of another: once, stated in its config, or not at all."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from dreamer_core.errors import BadInput
from dreamer_core.run.local import train_local
from dreamer_core.run.restored import load_agent
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunDirectoryError, read_config
from dreamer_core.storage.store import LocalStore
from tests.core.run.test_acting import CONFIG as CATCH
from tests.core.run.test_acting import make_run
from tests.core.small import changed

STEPS = {"steps": 60, "learner.num_threads": 1, "schedule.report_interval_gradient_steps": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of one checkpoint, of gradient step 5."""
    return make_run(tmp_path_factory.mktemp("source") / "run", CATCH, 5)


def beginning(source, **values):
    return changed(CATCH, {"init_from": str(source), **STEPS, **values})


def networks(agent):
    state = agent.state()
    parts = (state["world_model"], state["behavior"])
    return torch.cat([x.flatten() for part in parts for x in part.values()])


def nothing_trained(run_dir):
    """The agent that a run holds before its first gradient step."""
    return load_agent(run_dir, step=0)


def test_the_networks_are_taken_and_everything_else_begins_anew(source, tmp_path):
    result = train_local(beginning(source, **{"checkpoint.keep": 5}), tmp_path / "run")
    agent = nothing_trained(tmp_path / "run")
    assert torch.equal(networks(agent), networks(load_agent(source)))
    assert agent.gradient_step == 0 and agent.optimizers["actor"].state()["num_updates"] == 0
    assert (result.policy_steps, result.gradient_steps) == (60, 2)
    assert not torch.equal(networks(load_agent(tmp_path / "run")), networks(agent))
    assert read_config(tmp_path / "run").init_from == str(source)


def test_a_resumed_run_needs_its_source_no_more_and_refuses_another(source, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(source, gone)
    config, run_dir = beginning(gone), tmp_path / "run"
    train_local(config, run_dir, should_stop=lambda: True)
    shutil.rmtree(gone)
    assert train_local(config, run_dir).gradient_steps == 2
    assert not torch.equal(networks(load_agent(run_dir)), networks(load_agent(source)))
    for other in (source, None):
        with pytest.raises(RunDirectoryError, match="init_from"):
            train_local(dataclasses.replace(config, init_from=other and str(other)), run_dir)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"init_from": "/nowhere"}, "there is no /nowhere"),
        ({"world_model.deter": 24}, r"other sizes than this run's \(.*8x40 wanted"),
        ({"env.task": "tests.core.run.test_acting:Steer"}, "was trained for .*'action_size': 3"),
    ],
)
def test_what_cannot_be_begun_from_is_refused_before_anything_is_written(
    source, tmp_path, values, words
):
    with pytest.raises(BadInput, match=words):
        train_local(beginning(source, **values), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_newest_checkpoint_of_the_source_gives_way_to_the_one_before(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "copy")
    store = LocalStore(copy / "checkpoints")
    found = checkpoint.load(store)
    checkpoint.save(store, step=9, tensors=found.tensors, facts=found.facts, keep=2)
    next((copy / "checkpoints" / f"{9:012d}").glob("*.pt")).write_bytes(b"")
    train_local(beginning(copy), tmp_path / "run", should_stop=lambda: True)
    assert np.array_equal(networks(nothing_trained(tmp_path / "run")), networks(load_agent(source)))
