"""Dreams: what a watched agent sees and imagines is what its own parts compute, row by row."""

import itertools

import numpy as np
import pytest
import torch

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.run.dream import dream, watch_episode
from dreamer_core.run.rollout import evaluate_episode, play_episode
from tests.core.counting_env import CountingEnvironment
from tests.core.small import generator, small

HORIZON = 4
KINDS = pytest.mark.parametrize("is_discrete", [True, False])


def make_player(*, length=5, is_discrete=True, classes=None, **sections):
    """An environment, and an untrained agent with its policy."""
    env = CountingEnvironment(length, is_discrete=is_discrete, classes=classes)
    config = small("debug", **sections)
    agent, policy = DreamerAgent(config, env.spec), PolicyNetwork(config, env.spec)
    policy.load(agent.snapshot())
    return env, policy, agent


def first_row(env, policy):
    return next(play_episode(env, policy, mode="sample", words=(0, 0)))


def watched(env, policy, agent, mode="sample"):
    return list(watch_episode(env, policy, agent, mode=mode, words=(0, 0), horizon=HORIZON))


# Alignment


def test_image_screen_and_reward_of_a_moment_are_of_one_step():
    moments = watched(*make_player(length=5))
    assert [moment.t for moment in moments] == [0, 1, 2, 3, 4, 5]
    assert [moment.image.flat[0] for moment in moments] == [0, 1, 2, 3, 4, 5]
    assert [moment.screen.flat[0] for moment in moments] == [0, 1, 2, 3, 4, 5]
    assert [moment.reward for moment in moments] == [0, 1, 2, 3, 4, 5]
    assert [moment.episode_return for moment in moments] == [0, 1, 3, 6, 10, 15]
    assert [moment.is_last for moment in moments] == [False] * 5 + [True]


@KINDS
def test_the_action_of_a_moment_is_taken_next_and_begins_its_dream(is_discrete):
    env, policy, agent = make_player(is_discrete=is_discrete)
    moments = watched(env, policy, agent)
    assert len(env.actions) == 5
    for moment, taken in zip(moments[:-1], env.actions, strict=True):
        assert np.array_equal(moment.action, taken)
        assert np.array_equal(moment.dream.action[0], taken)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_a_watched_episode_is_the_one_that_an_evaluation_plays(mode):
    env, policy, agent = make_player()
    evaluated = evaluate_episode(env, policy, mode=mode, words=(0, 0), has_frames=True)
    played = np.stack(env.actions)
    env.actions.clear()
    moments = watched(env, policy, agent, mode)
    assert np.array_equal(np.stack(env.actions), played)
    assert len(moments) == len(evaluated.frames) == evaluated.summary.length + 1


def test_new_weights_count_from_the_next_row_on():
    env, policy, agent = make_player()
    moments = watch_episode(env, policy, agent, mode="sample", words=(0, 0), horizon=HORIZON)
    before = next(moments).dream.value[0]
    with torch.no_grad():
        agent.behavior.critic.out.bias += 7
    assert next(moments).dream.value[0] == pytest.approx(before + 7, abs=1)


# What is seen


@KINDS
def test_row_0_is_what_decoder_and_heads_say_of_the_state_the_policy_acts_from(is_discrete):
    env, policy, agent = make_player(is_discrete=is_discrete)
    present = first_row(env, policy).state
    seen = dream(agent, present, generator(), HORIZON)
    model, feat = agent.world_model, present.model.feat
    with torch.no_grad():
        assert np.allclose(seen.image[0], (model.decoder(feat)[0] + 0.5).clamp(0, 1), atol=1e-6)
        assert seen.reward[0] == pytest.approx(model.reward_head(feat).item(), abs=1e-6)
        assert seen.discount[0] == pytest.approx(model.predict_discount(feat).item(), abs=1e-6)
        assert seen.value[0] == pytest.approx(agent.behavior.critic(feat).item(), abs=1e-6)


def test_preferences_are_probabilities_of_discrete_actions_and_modes_of_others():
    for is_discrete in (True, False):
        env, policy, agent = make_player(is_discrete=is_discrete)
        row = next(play_episode(env, policy, mode="greedy", words=(0, 0)))
        preference = dream(agent, row.state, generator(), HORIZON).preference
        if is_discrete:
            assert preference.sum() == pytest.approx(1)
            assert preference.argmax() == row.state.action.argmax()
        else:
            assert preference == pytest.approx(row.state.action[0].numpy(), abs=1e-6)


def test_rewards_are_compared_as_the_model_learns_them():
    env, policy, agent = make_player(world_model={"reward_transform": "tanh"})
    assert watched(env, policy, agent)[2].transformed_reward == pytest.approx(np.tanh(2))


# What is imagined


@KINDS
def test_a_dream_is_the_prior_rolled_out_under_the_actor(is_discrete):
    env, policy, agent = make_player(is_discrete=is_discrete)
    present = first_row(env, policy).state
    dreamt = dream(agent, present, generator(), HORIZON)
    rssm, behavior, noise = agent.world_model.rssm, agent.behavior, generator()
    state_noise = rssm.latent.noise((HORIZON, 1), noise)
    action_noise = behavior.actions.noise((HORIZON - 1, 1), noise)
    deter, stoch, action = present.model.deter, present.model.stoch, present.action
    with torch.no_grad():
        for k in range(1, HORIZON + 1):
            x = torch.nn.functional.elu(rssm.input(torch.cat([stoch, action], -1)))
            deter = rssm.cell(x, deter)
            stoch = rssm.latent.sample(rssm.prior(deter), state_noise[k - 1])
            feat = torch.cat([deter, stoch], -1)
            image = agent.world_model.decoder(feat)[0] + 0.5
            assert np.allclose(dreamt.image[k], image.clamp(0, 1), atol=1e-5)
            assert dreamt.value[k] == pytest.approx(behavior.critic(feat).item(), abs=1e-5)
            if k < HORIZON:
                action = behavior.actions.sample(behavior.actor(feat), action_noise[k - 1])
                assert np.allclose(dreamt.action[k], action[0], atol=1e-5)


def test_a_dream_has_one_row_more_than_its_horizon_and_an_action_between_each_two():
    env, policy, agent = make_player()
    dreamt = dream(agent, first_row(env, policy).state, generator(), HORIZON)
    assert dreamt.image.shape == (HORIZON + 1, 64, 64, 1)
    rows = (dreamt.reward, dreamt.discount, dreamt.value)
    assert [values.shape for values in rows] == [(HORIZON + 1,)] * 3
    assert dreamt.action.shape == (HORIZON, 3)
    assert dreamt.image.min() >= 0 and dreamt.image.max() <= 1


def test_watching_leaves_the_agent_as_it_was():
    env, policy, agent = make_player()
    before = agent.snapshot().params
    moments = watched(env, policy, agent)
    assert all(np.array_equal(before[k], v) for k, v in agent.snapshot().params.items())
    dreams = itertools.pairwise(moment.dream.image[1:] for moment in moments)
    assert all(not np.array_equal(a, b) for a, b in dreams)


def test_a_dream_of_one_step_is_refused():
    env, policy, agent = make_player()
    with pytest.raises(ValueError, match="horizon=1: a dream needs 2"):
        dream(agent, first_row(env, policy).state, generator(), 1)
