"""Several choices at once: the agent learns them and the policy takes them, one of each."""

import numpy as np
import pytest

from dreamer_core.agent.policy import PolicyNetwork, step_generator
from tests.core.small import CHOICES, make_agent, make_batch, small, train

CONFIG = small(behavior={"reinforce_share": 0.5})


def played(agent, mode, steps=40):
    policy = PolicyNetwork(agent.config, CHOICES)
    policy.load(agent.snapshot())
    state, actions = policy.initial(), []
    for step in range(steps):
        image = np.full((64, 64, 1), step, np.uint8)
        action, state = policy.act(state, image, step_generator(0, step), mode)
        actions.append(action)
    return np.stack(actions)


@pytest.mark.parametrize("mode", ["sample", "greedy"])
def test_a_policy_takes_one_class_of_each_choice(mode):
    actions = played(make_agent(CHOICES, CONFIG), mode)
    assert set(np.unique(actions)) == {0, 1}
    assert [part.sum(1).tolist() for part in np.split(actions, [2, 5], 1)] == [[1] * 40] * 3


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_agent_learns_from_them_by_either_gradient(share):
    agent = make_agent(CHOICES, small(behavior={"reinforce_share": share}))
    before = {k: v.clone() for k, v in agent.behavior.actor.state_dict().items()}
    metrics = train(agent, [make_batch(CHOICES, seed=seed) for seed in range(2)])
    assert all(np.isfinite(float(x)) for step in metrics for x in step.values())
    assert metrics[0]["dreamer_actor_entropy_nats"] <= np.log(2 * 3 * 2)
    after = agent.behavior.actor.state_dict()
    assert all((before[name] != after[name]).any() for name in before)
