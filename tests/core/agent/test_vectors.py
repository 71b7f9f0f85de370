"""An agent that sees a vector, alone or besides the image: it learns, acts and dreams of it."""

import numpy as np
import pytest
import torch

from dreamer_core.agent.policy import PolicyNetwork, step_generator
from dreamer_core.run.dream import watch_episode
from dreamer_core.run.rollout import Rollout, evaluate_episode
from tests.core.counting_env import CountingEnvironment
from tests.core.small import BOTH, VECTOR, make_agent, make_batch, small, train

SPECS = pytest.mark.parametrize("spec", [BOTH, VECTOR])


def make_policy(agent, spec):
    policy = PolicyNetwork(agent.config, spec)
    policy.load(agent.snapshot())
    return policy


@SPECS
def test_gradient_steps_report_the_vector_and_what_else_is_seen(spec):
    agent = make_agent(spec)
    *_, metrics = train(agent, [make_batch(spec, seed=seed) for seed in range(3)])
    assert all(np.isfinite(float(value)) for value in metrics.values())
    loss, error = metrics["dreamer_vector_loss"], metrics["dreamer_vector_mean_squared_error"]
    assert float(error) == pytest.approx(2 * float(loss) / 5)
    assert ("dreamer_image_mean_squared_error" in metrics) == (spec == BOTH)


@SPECS
def test_the_policys_states_equal_what_the_learner_observes(spec):
    agent = make_agent(spec)
    train(agent, [make_batch(spec)])
    policy, batch = make_policy(agent, spec), make_batch(spec, seed=1, size=(1, 8))
    state, feats, noises = policy.initial(), [], []
    prev_actions = [np.zeros(3, np.float32)]
    for t in range(8):
        noises.append(policy.rssm.latent.noise((1,), step_generator(0, t)))
        image, vector = batch.image[0, t], batch.vector[0, t]
        action, state = policy.act(state, image, step_generator(0, t), "sample", vector=vector)
        prev_actions.append(action)
        feats.append(state.model.feat)
    model = agent.world_model
    embed = model.encode(torch.from_numpy(batch.image), torch.from_numpy(batch.vector))
    is_first = torch.tensor([[True] + [False] * 7])
    actions = torch.from_numpy(np.stack(prev_actions[:-1]))[None]
    observed = model.rssm.observe(embed, actions, is_first, torch.stack(noises, 1))
    assert torch.allclose(observed.state.feat, torch.stack(feats, 1), atol=1e-5)


def test_the_action_depends_on_the_vector():
    policy = make_policy(make_agent(VECTOR), VECTOR)
    image, states = np.zeros((64, 64, 0), np.uint8), []
    for vector in (np.zeros(5, np.float32), np.full(5, 30, np.float32)):
        _, state = policy.act(policy.initial(), image, step_generator(0), "greedy", vector=vector)
        states.append(policy.actor(state.model.features))
    assert not torch.equal(*states)


@pytest.mark.parametrize("has_image", [True, False])
def test_every_row_of_a_rollout_has_the_vector_of_its_step(has_image):
    env = CountingEnvironment(4, vector_size=2, has_image=has_image)
    chunks = Rollout(env, small("debug"), 0).run(6, policy_step=0, weights=None).chunks
    rows = [row.tolist() for chunk in chunks for row in chunk.vector]
    assert rows == [[t, t] for t in (0, 1, 2, 3, 4, 0, 1, 2)]


@pytest.mark.parametrize("has_image", [True, False])
def test_a_watched_episode_shows_pictures_with_or_without_an_image(has_image):
    env = CountingEnvironment(3, vector_size=2, has_image=has_image)
    agent = make_agent(env.spec, small("debug"))
    policy = make_policy(agent, env.spec)
    moments = list(watch_episode(env, policy, agent, mode="greedy", words=(0,), horizon=4))
    assert [moment.image.shape for moment in moments] == [(64, 64, 1)] * 4
    assert moments[0].dream.image.shape == (5, 64, 64, 1)
    played = evaluate_episode(env, policy, mode="greedy", words=(0,), has_frames=True)
    assert np.stack(played.frames).shape == (4, 64, 64, 1)
