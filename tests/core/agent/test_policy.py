"""The policy is the same agent: it sees, remembers and acts as the learner does."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork, step_generator
from dreamer_core.model.distributions import seeded_generator
from dreamer_core.model.world_model import TensorBatch
from dreamer_core.types import WeightsSnapshot
from tests.core.small import (
    CONTINUOUS,
    CONTINUOUS_CONTROL,
    CPU,
    DISCRETE,
    make_agent,
    make_batch,
    make_constant,
    small,
    train,
)

BATCHES = [make_batch(seed=seed) for seed in range(2)]


def make_policy(agent: DreamerAgent, spec=DISCRETE) -> PolicyNetwork:
    policy = PolicyNetwork(agent.config, spec)
    policy.load(agent.snapshot())
    return policy


def trained_agent(config=None, spec=DISCRETE) -> DreamerAgent:
    agent = make_agent(spec, config)
    train(agent, [make_batch(spec, seed=seed) for seed in range(3)])
    return agent


def output_of(module: torch.nn.Module) -> list[Tensor]:
    """Collects what a module puts out from now on."""
    outputs: list[Tensor] = []
    module.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    return outputs


def tensors_from(images: np.ndarray, prev_action: Tensor) -> TensorBatch:
    """One sequence [1, T] that starts at its first row."""
    count = len(images)
    is_first = torch.zeros(1, count, dtype=torch.bool)
    is_first[0, 0] = True
    zeros = torch.zeros(1, count)
    image = torch.from_numpy(images)[None]
    return TensorBatch(image, prev_action, zeros, is_first, zeros.bool())


def test_the_policy_embeds_an_image_as_the_learner_does():
    agent = trained_agent()
    policy, images = make_policy(agent), BATCHES[0].image[0]
    ours, theirs = output_of(policy.encoder), output_of(agent.world_model.encoder)
    for image in images:
        policy.act(policy.initial(), image, step_generator(0), "greedy")
    noise = agent.world_model.rssm.latent.noise((1, len(images)), step_generator(0))
    agent.world_model.observe(tensors_from(images, torch.zeros(1, len(images), 3)), noise)
    assert torch.allclose(torch.cat(ours, 1), theirs[0], atol=1e-5)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
@pytest.mark.parametrize(
    ("config", "spec"), [(small(), DISCRETE), (CONTINUOUS_CONTROL, CONTINUOUS)]
)
def test_the_policys_states_equal_what_the_learner_observes(mode, config, spec):
    agent = trained_agent(config, spec)
    policy, images = make_policy(agent, spec), BATCHES[1].image[1]
    latent = policy.rssm.latent
    state, feats, noises = policy.initial(), [], []
    prev_actions = [np.zeros(spec.action_size, np.float32)]
    for t, image in enumerate(images):
        noises.append(latent.noise((1,), step_generator(0, t)))
        action, state = policy.act(state, image, step_generator(0, t), mode)
        prev_actions.append(action)
        feats.append(state.model.feat)
    data = tensors_from(images, torch.from_numpy(np.stack(prev_actions[:-1]))[None])
    observed = agent.world_model.observe(data, torch.stack(noises, 1))
    assert torch.allclose(observed.state.feat, torch.stack(feats, 1), atol=1e-5)


def test_a_greedy_policy_takes_the_mode_of_the_learners_actor():
    agent = trained_agent()
    policy = make_policy(agent)
    action, state = policy.act(
        policy.initial(), BATCHES[0].image[0, 0], step_generator(0), "greedy"
    )
    logits = agent.behavior.actor(state.model.feat.clone())
    assert action.tolist() == torch.eye(3)[logits.argmax()].tolist()
    assert state.action[0].tolist() == action.tolist()


def test_a_sampling_policy_follows_its_actor_and_its_generator():
    policy = make_policy(make_agent())
    make_constant(policy.actor.out, *np.log([0.2, 0.1, 0.7]))
    image = BATCHES[0].image[0, 0]
    actions = [
        policy.act(policy.initial(), image, step_generator(i), "sample")[0] for i in range(400)
    ]
    assert np.mean(actions, 0) == pytest.approx([0.2, 0.1, 0.7], abs=0.08)
    again = policy.act(policy.initial(), image, step_generator(7), "sample")[0]
    assert again.tolist() == actions[7].tolist()


def test_continuous_actions_stay_within_their_bounds():
    policy = make_policy(make_agent(CONTINUOUS, CONTINUOUS_CONTROL), CONTINUOUS)
    for i in range(20):
        image = BATCHES[0].image[0, i % 8]
        action, _ = policy.act(policy.initial(), image, step_generator(i), "sample")
        assert action.shape == (2,) and np.abs(action).max() <= 1


def test_a_snapshot_is_a_copy_of_what_acting_needs():
    agent = make_agent()
    snapshot = agent.snapshot()
    before = {name: value.copy() for name, value in snapshot.params.items()}
    train(agent, BATCHES[:1])
    assert all(np.array_equal(before[name], snapshot.params[name]) for name in before)
    assert {name.split(".")[0] for name in before} == {"encoder", "rssm", "actor"}
    assert not any("prior" in name for name in before)
    assert (snapshot.version, agent.snapshot().version) == (0, 1)


def test_a_policy_refuses_the_weights_of_another_model():
    policy = make_policy(make_agent())
    other = make_agent(config=small(behavior={"units": 16})).snapshot()
    with pytest.raises(ValueError, match="weights of gradient step 0 do not fit this policy"):
        policy.load(other)
    with pytest.raises(ValueError, match="do not fit this policy"):
        policy.load(WeightsSnapshot(version=0, params={}))


def test_a_step_of_the_policy_can_be_repeated_from_its_words():
    ours, twin = step_generator(0, 1, 2, 3), seeded_generator(CPU, 0, 1, 2, 3)
    assert torch.equal(torch.rand(4, generator=ours), torch.rand(4, generator=twin))
