"""The frame around a captured step, on a machine without a card; and who may open a card."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.captured_update import CapturedUpdate
from dreamer_core.agent.device import choose_execution, require_device
from dreamer_core.config_learner import LearnerConfig
from dreamer_core.model.behavior import Behavior
from dreamer_core.run.front import ready
from tests.core.small import DISCRETE, make_agent, make_batch, parameters_of, small

END = 100  # policy steps
SCHEDULED = small(
    behavior={
        "reinforce_share": 0.9, "reinforce_share_end": 1.0, "schedule_policy_steps": END,
        "entropy_scale": 3e-3, "entropy_scale_end": 1e-3,
    }
)  # fmt: skip
AFTERWARDS = small(behavior={"reinforce_share": 1.0, "entropy_scale": 1e-3})


class HostGraph:
    """In place of a CUDA graph: what is captured is done at once, and a replay does nothing."""

    num_captured = 0

    def replay(self) -> None:
        """Has nothing left to do."""


@pytest.fixture
def host_graphs(monkeypatch):
    class Stream:
        def wait_stream(self, _other: Stream) -> None:
            """There is one stream only."""

        def synchronize(self) -> None:
            """Nothing is under way."""

    def capture(_graph: HostGraph, **_options: str):
        HostGraph.num_captured += 1
        return nullcontext()

    monkeypatch.setattr(HostGraph, "num_captured", 0)
    stand_ins = {
        "CUDAGraph": HostGraph, "graph": capture, "Stream": Stream, "current_stream": Stream,
        "stream": lambda _stream: nullcontext(),
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


def capturing(agent: DreamerAgent) -> DreamerAgent:
    """Has an agent capture its steps."""
    agent.execution = replace(agent.execution, is_captured=True)
    agent._update = CapturedUpdate(agent._eager_update, is_compiled=False)
    return agent


def weights(agent: DreamerAgent) -> torch.Tensor:
    return torch.cat([parameters_of(agent.world_model), parameters_of(agent.behavior)])


@pytest.fixture
def imagined(monkeypatch):
    """Whether gradients of the dynamics were recorded, at each imagination."""
    found: list[bool] = []
    imagine = Behavior.imagine

    def watched(*arguments):
        found.append(torch.is_grad_enabled())
        return imagine(*arguments)

    monkeypatch.setattr(Behavior, "imagine", watched)
    return found


def take_step(agent: DreamerAgent, policy_step: int) -> None:
    agent.train_step(make_batch(seed=policy_step, size=(2, 4)), policy_step=policy_step)


@pytest.mark.usefixtures("host_graphs")
def test_a_step_is_captured_anew_without_dynamics_gradients_once_its_schedule_has_ended(imagined):
    agent = capturing(make_agent(config=SCHEDULED))
    for policy_step in (0, END // 2):
        take_step(agent, policy_step)
    assert imagined == [True] * (3 + 1)  # three steps to warm up, and the one that is captured
    imagined.clear()
    for policy_step in (END, END + 1, 10 * END):
        take_step(agent, policy_step)
    assert imagined == [False] * (3 + 1)
    assert HostGraph.num_captured == 2


def test_after_its_schedule_a_step_is_bit_for_bit_one_that_never_had_dynamics_gradients(imagined):
    ours, theirs = make_agent(config=SCHEDULED), make_agent(config=AFTERWARDS)
    for agent in (ours, theirs):
        take_step(agent, END)
    assert torch.equal(weights(ours), weights(theirs))
    assert imagined == [False, False]


def test_a_share_of_one_gives_what_a_mixture_with_no_dynamics_in_it_gives(imagined):
    as_number, as_tensor = make_agent(config=AFTERWARDS), make_agent(config=AFTERWARDS)
    for agent, share in ((as_number, 1.0), (as_tensor, torch.ones(()))):
        inputs = agent.inputs(agent._staging(make_batch(size=(2, 4))), 1.0, 1e-3)
        agent._eager_update(replace(inputs, reinforce_share=share))
    assert torch.allclose(weights(as_number), weights(as_tensor), atol=1e-6)
    assert imagined == [False, True]


def test_a_run_that_is_resumed_within_its_schedule_goes_past_its_end_bit_for_bit():
    whole, resumed = make_agent(config=SCHEDULED), make_agent(config=SCHEDULED)
    take_step(whole, END // 2)
    resumed.load_state(copy.deepcopy(whole.state()))
    for agent in (whole, resumed):
        take_step(agent, 2 * END)
    assert torch.equal(weights(whole), weights(resumed))


@pytest.fixture
def closed_card(monkeypatch):
    """A machine with a card that this process must not open."""

    def refuse(*_arguments):
        raise AssertionError("the card was opened")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("_lazy_init", "get_device_capability", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, refuse)


@pytest.mark.usefixtures("closed_card")
def test_who_only_starts_a_learner_leaves_its_card_closed(tmp_path):
    config = replace(small(), learner=LearnerConfig())
    assert ready(config, DISCRETE, tmp_path, trained="beside") == config
    assert require_device(config.learner).type == "cuda"
    with pytest.raises(AssertionError, match="the card was opened"):
        choose_execution(config.learner)


def test_what_no_cpu_can_do_is_refused_before_a_learner_is_started(tmp_path):
    config = replace(small(), learner=LearnerConfig(device="cpu", precision="bfloat16"))
    with pytest.raises(ValueError, match="precision=bfloat16 needs a CUDA device"):
        ready(config, DISCRETE, tmp_path, trained="beside")
