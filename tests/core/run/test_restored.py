"""The agent of a checkpoint: that of any step, or the newest, which is renewed as they come."""

import dataclasses

import numpy as np
import pytest

from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput
from dreamer_core.presets import preset
from dreamer_core.run.local import train_local
from dreamer_core.run.restored import NewestAgent, checkpoint_weights, load_agent
from dreamer_core.storage import checkpoint
from dreamer_core.storage.checkpoint import CheckpointCorrupt
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from dreamer_core.storage.store import LocalStore
from tests.core.small import CATCH, changed

CONFIG = changed(preset("debug"), {**CATCH, "steps": 60})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of a short run."""
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    train_local(CONFIG, run_dir)
    found = checkpoint.load(LocalStore(RunPaths(run_dir).checkpoints))
    assert found is not None
    return found


def save(run_dir, found, step):
    """Saves the checkpoint again as that of another gradient step, with weights of its own."""
    tensors = {**found.tensors, "gradient_step": step}
    store = LocalStore(RunPaths(run_dir).checkpoints)
    checkpoint.save(store, step=step, tensors=tensors, facts=found.facts, keep=3)


def make(run_dir, config=CONFIG):
    return NewestAgent(run_dir, config, environment_spec(config.env))


def blob(run_dir, step):
    (path,) = (RunPaths(run_dir).checkpoints / f"{step:012d}").glob("tensors-*.pt")
    return path


def test_before_the_first_checkpoint_there_is_nothing_to_play_with(tmp_path):
    newest = make(tmp_path)
    assert not newest.renew() and newest.wall_time_s is None


def test_the_policy_gets_the_weights_of_the_newest_checkpoint_once(tmp_path, trained):
    newest = make(tmp_path)
    save(tmp_path, trained, 5)
    assert newest.renew() and newest.agent.gradient_step == 5
    assert newest.wall_time_s is not None
    actor = trained.tensors["behavior"]["actor.out.weight"].numpy()
    assert np.array_equal(newest.policy.actor.out.weight.numpy(), actor)
    assert not newest.renew()
    save(tmp_path, trained, 8)
    assert newest.renew() and newest.agent.gradient_step == 8


def test_a_checkpoint_is_played_with_by_its_step_and_then_the_newest_again(tmp_path, trained):
    newest = make(tmp_path)
    save(tmp_path, trained, 5)
    save(tmp_path, trained, 8)
    assert newest.renew(5) and newest.agent.gradient_step == 5 and newest.steps == [8, 5]
    assert not newest.renew(5)
    with pytest.raises(BadInput, match="no checkpoint 6"):
        newest.renew(6)
    assert newest.agent.gradient_step == 5
    assert newest.renew() and newest.agent.gradient_step == 8


def test_of_a_damaged_checkpoint_the_one_before_it_is_used_and_it_is_read_once(tmp_path, trained):
    newest = make(tmp_path)
    save(tmp_path, trained, 5)
    save(tmp_path, trained, 8)
    blob(tmp_path, 8).write_bytes(b"damaged")
    assert newest.renew() and newest.agent.gradient_step == 5
    assert not newest.renew()


def test_checkpoints_that_vanish_leave_the_weights_as_they_are(tmp_path, trained):
    newest = make(tmp_path)
    save(tmp_path, trained, 5)
    newest.renew()
    save(tmp_path, trained, 8)
    for step in (5, 8):
        blob(tmp_path, step).unlink()
    with pytest.raises(CheckpointCorrupt, match="no checkpoint could be read"):
        newest.renew()
    assert newest.agent.gradient_step == 5


def test_a_checkpoint_of_another_run_is_refused(tmp_path, trained):
    save(tmp_path, trained, 5)
    newest = make(tmp_path, dataclasses.replace(CONFIG, seed=1))
    with pytest.raises(ValueError, match="of another run"):
        newest.renew()
    assert newest.wall_time_s is None


def test_the_weights_of_the_newest_or_of_any_step_come_with_the_policy_steps_behind_them(
    tmp_path, trained
):
    spec = environment_spec(CONFIG.env)
    for step in (5, 8):
        save(tmp_path, trained, step)
    for asked, got in ((None, 8), (5, 5)):
        weights, policy_step = checkpoint_weights(tmp_path, CONFIG, spec, step=asked)
        assert weights.version == got and policy_step == trained.facts["policy_step"]


def test_weights_of_a_run_without_checkpoints_are_refused_with_when_they_come(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"has none yet; they are written every"):
        checkpoint_weights(tmp_path, CONFIG, environment_spec(CONFIG.env))


def test_weights_of_another_run_are_refused(tmp_path, trained):
    save(tmp_path, trained, 5)
    config = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(BadInput, match="of another run"):
        checkpoint_weights(tmp_path, config, environment_spec(config.env))


def test_the_whole_agent_of_a_checkpoint_is_loaded(tmp_path, trained):
    save(tmp_path, trained, 5)
    agent = load_agent(tmp_path / "checkpoints")
    assert agent.gradient_step == 5 and agent.device.type == "cpu"
    saved = trained.tensors["behavior"]["critic.out.weight"]
    assert np.array_equal(agent.behavior.critic.out.weight.detach(), saved)
