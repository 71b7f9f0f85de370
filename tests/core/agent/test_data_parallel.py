"""A batch that processes share gives the numbers of one process, whatever happens to peers."""

import copy
import os
import signal
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from dreamer_core.agent import data_parallel
from dreamer_core.agent.agent import DreamerAgent, NonFiniteLoss
from dreamer_core.agent.data_parallel import PeerLost
from dreamer_core.config import Config, WorldModelConfig
from dreamer_core.config_learner import LearnerConfig
from dreamer_core.errors import BadInput
from tests.core.agent.make_golden_losses import LOSSES
from tests.core.small import CONTINUOUS, DISCRETE, make_batch, parameters_of, small

STEPS = 4
SCHEDULED = {"reinforce_share": 0.9, "reinforce_share_end": 1.0, "schedule_policy_steps": 100}


def make_agent(processes: int, spec=DISCRETE, config: Config | None = None) -> DreamerAgent:
    behavior = {**SCHEDULED, "slow_critic_interval_gradient_steps": 2}
    config = config or small("atari_schedules", behavior=behavior)
    learner = LearnerConfig(num_threads=1, num_processes=processes)
    return DreamerAgent(replace(config, learner=learner), spec)


def metrics(agent: DreamerAgent, spec=DISCRETE, steps: int = STEPS) -> list[dict[str, float]]:
    found = []
    for step in range(agent.gradient_step, agent.gradient_step + steps):
        told = agent.train_step(make_batch(spec, seed=step), policy_step=step)
        found.append({name: float(value) for name, value in told.items()})
    return found


def losses(agent: DreamerAgent, steps: int = STEPS) -> list[dict[str, float]]:
    return losses_of(metrics(agent, steps=steps))


def losses_of(found: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: told[f"dreamer_{name}_loss"] for name in LOSSES} for told in found]


def peers(agent: DreamerAgent) -> list[data_parallel._PeerProcess]:
    update = agent._update
    assert isinstance(update, data_parallel.DataParallelUpdate)
    return update._peers


def lose(peer: data_parallel._PeerProcess) -> None:
    os.kill(peer._process.pid, signal.SIGKILL)
    peer._process.wait()


@dataclass
class Whole:
    """The steps of an agent that nothing happened to, and the state in the middle of them."""

    agent: DreamerAgent
    metrics: list[dict[str, float]]
    state: dict[str, Any]

    @property
    def losses(self) -> list[dict[str, float]]:
        return losses_of(self.metrics)


@pytest.fixture(scope="module")
def whole() -> Whole:
    """Of two processes; a process takes two seconds to start."""
    agent = make_agent(2)
    first = metrics(agent, steps=STEPS // 2)
    state = copy.deepcopy(agent.state())
    return Whole(agent, [*first, *metrics(agent, steps=STEPS - len(first))], state)


@pytest.fixture(scope="module")
def alone() -> Whole:
    """Of one process."""
    agent = make_agent(1)
    return Whole(agent, metrics(agent), agent.state())


@pytest.mark.parametrize("processes", [2, 3])  # batches of 3: unequal parts, then one each
def test_processes_compute_the_losses_of_one_with_the_slow_critic_and_both_schedules(
    whole, alone, processes
):
    together = whole.agent if processes == 2 else make_agent(processes)
    found = whole.losses if processes == 2 else losses(together)
    for ours, theirs in zip(found, alone.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    difference = parameters_of(together.world_model) - parameters_of(alone.agent.world_model)
    assert difference.abs().max() < 1e-4
    assert len(peers(together)) == processes - 1


def test_every_metric_is_that_of_the_whole_batch(whole, alone):
    assert whole.metrics[0] == pytest.approx(alone.metrics[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 0])
def test_vectors_with_and_without_images_and_continuous_actions_are_shared_too(channels):
    spec = replace(CONTINUOUS, vector_size=5, image_shape=(64, 64, channels))
    config = small("control", world_model={"has_discount_head": True, "free_nats": 0.0})
    ours, theirs = (
        [told["dreamer_world_model_loss"] for told in metrics(agent, spec, steps=2)]
        for agent in (make_agent(n, spec, config) for n in (1, 2))
    )
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_the_same_run_is_the_same_to_the_last_bit(whole):
    again = make_agent(2)
    assert losses(again) == whole.losses
    ours, theirs = again.world_model, whole.agent.world_model
    assert torch.equal(parameters_of(ours), parameters_of(theirs))


def test_a_restored_state_reaches_the_peers(whole):
    other = make_agent(2)
    losses(other, steps=1)  # its peer runs already
    other.load_state(whole.state)
    assert losses(other, steps=2) == whole.losses[2:]


def test_a_peer_that_dies_is_replaced_and_no_number_changes(whole, monkeypatch, caplog):
    agent = make_agent(2)
    found = losses(agent, steps=1)
    (peer,) = peers(agent)
    lose(peer)
    found += losses(agent, steps=1)
    ask = peer.ask

    def ask_the_dead(request):
        if request.half == "behavior":
            monkeypatch.undo()
            lose(peer)
        ask(request)

    monkeypatch.setattr(peer, "ask", ask_the_dead)
    assert found + losses(agent, steps=2) == whole.losses
    assert caplog.text.count("died (signal 9); another takes its place") == 2


def test_a_peer_that_dies_twice_ends_the_step_with_what_to_do(monkeypatch):
    agent = make_agent(2)
    losses(agent, steps=1)
    (peer,) = peers(agent)
    start = peer._start

    def start_and_lose():
        start()
        lose(peer)

    monkeypatch.setattr(peer, "_start", start_and_lose)
    lose(peer)
    with pytest.raises(PeerLost, match=r"died twice .*signal 9.* lower learner.num_processes"):
        losses(agent, steps=1)


def test_what_a_peer_met_comes_with_its_trace_once(capfd):
    agent = make_agent(2)
    losses(agent, steps=1)
    (peer,) = peers(agent)
    peer.ask(data_parallel.Request("behavior", 1, "nonsense", 0.0))
    with pytest.raises(RuntimeError, match=r"(?s)process of the learner failed.*Traceback"):
        peer.part()
    peer._end()
    assert capfd.readouterr().err == ""
    assert len(losses(agent, steps=1)) == 1


def test_a_loss_that_is_not_finite_in_a_peer_ends_the_step_before_it_changes_anything(whole):
    before = parameters_of(whole.agent.world_model).clone()
    bad = make_batch()
    bad.reward[-1, 0] = float("nan")  # the last sequence is the peer's
    with pytest.raises(NonFiniteLoss, match="reward is not finite"):
        whole.agent.train_step(bad)
    assert torch.equal(parameters_of(whole.agent.world_model), before)


def test_a_step_that_was_interrupted_leaves_no_answer_to_the_next_one(whole, monkeypatch):
    agent = make_agent(2)
    found = losses(agent, steps=1)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(agent._eager_update, "world_model_part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        agent.train_step(make_batch(seed=99))
    monkeypatch.undo()
    assert found + losses(agent, steps=2) == whole.losses[:3]


def test_a_batch_of_another_size_is_refused(whole):
    with pytest.raises(ValueError, match=r"shape \(2, 8.*share \(3, 8.*replay.batch_size"):
        make_agent(2).train_step(make_batch(size=(2, 8)))
    with pytest.raises(ValueError, match=r"shape \(1, 8.*share \(3, 8.*replay.batch_size"):
        whole.agent.train_step(make_batch(size=(1, 8)))


def test_a_peer_is_silent_finds_no_module_in_the_working_directory_and_ends_with_its_agent(
    tmp_path, monkeypatch, capfd
):
    (tmp_path / "random.py").write_text("raise ImportError('not the random of Python')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data_parallel, "_TIME_TO_END_S", 60.0)
    agent = make_agent(2)
    losses(agent, steps=1)
    process = peers(agent)[0]._process
    assert os.getpgid(process.pid) != os.getpgrp()  # that of its terminal, which is interrupted
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    losses(agent, steps=1)
    assert process.poll() is None
    del agent
    assert process.wait(60) == 0
    assert capfd.readouterr() == ("", "")


def test_an_agent_that_takes_no_step_starts_no_process():
    agent = make_agent(2)
    agent.snapshot()
    assert not peers(agent)


def test_a_config_that_cannot_be_shared_is_refused():
    with pytest.raises(BadInput, match="num_processes=9 is more than the 3 sequences"):
        replace(small(), learner=LearnerConfig(num_processes=9))
    with pytest.raises(BadInput, match=r"needs world_model.free_nats=0"):
        Config(world_model=WorldModelConfig(free_nats=1.0), learner=LearnerConfig(num_processes=2))
    with pytest.raises(BadInput, match="num_processes=0"):
        LearnerConfig(num_processes=0)
