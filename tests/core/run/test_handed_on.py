"""An agent handed on is a run to play, watch and begin from, but not to resume."""

import dataclasses
import errno
import hashlib
import os

import pytest
import torch

from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput, Failed
from dreamer_core.report.log import RunLog
from dreamer_core.report.read import read_jsonl
from dreamer_core.report.report import EpisodeSummary, Report
from dreamer_core.run.evaluation import evaluate_run
from dreamer_core.run.handed_on import hand_on
from dreamer_core.run.local import train_local
from dreamer_core.run.restored import NewestAgent, load_agent
from dreamer_core.storage.checkpoint import CheckpointCorrupt
from dreamer_core.storage.manifest import Manifest
from dreamer_core.storage.run_directory import read_config
from dreamer_core.storage.safetensors import decode, encode
from dreamer_core.storage.store import LocalStore
from tests.commands import contents
from tests.core.run.test_acting import CONFIG, make_run
from tests.core.run.test_begin_from import beginning, networks, nothing_trained
from tests.core.small import changed


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of two checkpoints."""
    return make_run(tmp_path_factory.mktemp("source") / "run", CONFIG, 5, 8)


@pytest.fixture
def agent(source, tmp_path):
    """The directory of its agent, handed on."""
    hand_on(source, tmp_path / "agent")
    return tmp_path / "agent"


def blob_of(agent):
    (path,) = agent.glob("checkpoints/*/*.safetensors")
    return path


def replace_tensors(agent, change):
    """Changes what the file of tensors holds, under hashes that are right."""
    groups = decode(blob_of(agent).read_bytes())
    change(groups)
    content, manifest = encode(groups), blob_of(agent).with_name("manifest.json")
    told = Manifest.decode(manifest.read_bytes(), 8, "")
    sha256 = hashlib.sha256(content).hexdigest()
    told = dataclasses.replace(told, blob_bytes=len(content), blob_sha256=sha256)
    blob_of(agent).unlink()
    (agent / "checkpoints" / told.blob).write_bytes(content)
    manifest.write_bytes(told.encode())


def test_the_networks_are_the_same_to_the_bit_and_nothing_else_comes_along(source, agent):
    assert torch.equal(networks(load_agent(agent)), networks(load_agent(source)))
    assert load_agent(agent).gradient_step == 8
    assert set(decode(blob_of(agent).read_bytes())) == {"world_model", "behavior"}
    assert {path.name for path in agent.iterdir()} == {"config.json", "checkpoints"}


def played(place):
    episodes = evaluate_run(place, episodes=2, mode="greedy", video=None, seed=3)
    return [(episode.episode_return, episode.length) for episode in episodes]


def test_it_plays_as_its_run_does(source, agent):
    assert played(agent) == played(source)


def test_it_is_watched_as_a_run_is(agent):
    newest = NewestAgent(agent, CONFIG, environment_spec(CONFIG.env))
    assert newest.renew() and newest.agent.gradient_step == 8 and not newest.renew()


def test_an_older_checkpoint_is_handed_on_if_it_is_asked_for(source, tmp_path):
    assert hand_on(source, tmp_path / "agent", step=5).step == 5
    assert load_agent(tmp_path / "agent").gradient_step == 5


def test_a_new_run_begins_with_it(agent, source, tmp_path):
    train_local(beginning(agent, **{"checkpoint.keep": 5}), tmp_path / "run")
    assert torch.equal(networks(nothing_trained(tmp_path / "run")), networks(load_agent(source)))


def test_its_own_run_is_not_resumed_for_want_of_what_it_went_on_from(agent):
    before = contents(agent)
    with pytest.raises(BadInput, match=r"holds an agent alone.*--from"):
        train_local(CONFIG, agent)
    assert contents(agent).items() >= before.items()


def test_its_checkpoints_lie_in_it_wherever_those_of_its_run_lay(tmp_path):
    elsewhere = changed(CONFIG, {"checkpoint.url": str(tmp_path / "elsewhere")})
    agent = tmp_path / "agent"
    hand_on(make_run(tmp_path / "run", elsewhere, 4), agent)
    assert read_config(agent).checkpoint.url is None and played(agent)


def test_of_a_long_log_it_keeps_the_episodes_and_some_of_the_rest(tmp_path):
    run_dir = make_run(tmp_path / "run", CONFIG, 4)
    with RunLog(run_dir, frames_per_policy_step=1) as log:
        for step in range(1, 1000):
            losses = Report(service="learner", values={"dreamer_kl_nats": step / 2})
            log.write(losses, policy_step=step, gradient_step=step)
            if step % 100 == 0:
                ended = EpisodeSummary(policy_step=step, episode_return=1.0, length=3)
                report = Report(service="collector", episodes=(ended,))
                log.write(report, policy_step=step, gradient_step=step)
    with (run_dir / "metrics.jsonl").open("a") as log:
        log.write('{"wall_time_s": 3')
    hand_on(run_dir, tmp_path / "agent")
    kept = read_jsonl(tmp_path / "agent/metrics.jsonl")
    assert sum(line.service == "collector" for line in kept) == 9
    losses = [line.values["dreamer_kl_nats"] for line in kept if line.service == "learner"]
    assert 100 < len(losses) <= 201 and losses[-1] == 999 / 2


def test_nothing_is_written_into_a_directory_that_holds_something(source, agent):
    before = contents(agent)
    with pytest.raises(BadInput, match="wanted an empty directory"):
        hand_on(source, agent)
    assert contents(agent) == before


def test_a_place_that_cannot_be_written_is_refused(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Name another directory with --to"):
        hand_on(source, tmp_path / "file" / "agent")


def test_a_full_disk_is_said_without_a_run_that_would_resume(source, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalStore, "write", fail)
    with pytest.raises(Failed, match=r"agent into .*, but No space left on device\. Name another"):
        hand_on(source, tmp_path / "agent")
    assert not (tmp_path / "agent/config.json").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-1], "bytes, wanted"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "does not match its hash"),
    ],
    ids=["truncated", "flipped"],
)
def test_a_damaged_file_of_tensors_is_named(agent, damage, words):
    blob_of(agent).write_bytes(damage(blob_of(agent).read_bytes()))
    with pytest.raises(CheckpointCorrupt, match=rf"safetensors.*{words}"):
        load_agent(agent)


def test_a_missing_file_of_tensors_is_named(agent):
    blob_of(agent).unlink()
    with pytest.raises(CheckpointCorrupt, match="safetensors is missing"):
        load_agent(agent)


def rename(groups):
    groups["behavior"]["actor.other"] = groups["behavior"].pop("actor.out.weight")


def reshape(groups):
    groups["behavior"]["actor.out.weight"] = groups["behavior"]["actor.out.weight"].T.contiguous()


def drop(groups):
    del groups["world_model"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename, r"actor\.other: None wanted"),
        (reshape, r"actor\.out\.weight: \d+x\d+ wanted, \d+x\d+ there"),
        (drop, "world_model"),
    ],
)
def test_networks_that_are_not_those_of_its_config_are_refused(agent, tmp_path, change, words):
    replace_tensors(agent, change)
    with pytest.raises(BadInput, match=words):
        load_agent(agent)
    with pytest.raises(BadInput, match=words):
        train_local(beginning(agent), tmp_path / "run")
    assert not (tmp_path / "run").exists()
