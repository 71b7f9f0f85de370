"""Reach has the returns that its policies give, so that a learning curve on it can be read."""

import numpy as np
import pytest

from tests.learning.reach import EPISODE_STEPS, best_action, make_env


def returns(policy, episodes=200):
    env, found = make_env(), []
    env.reset(seed=0)
    for _ in range(episodes):
        env.reset()
        found.append(sum(env.step(policy(env))[1] for _ in range(EPISODE_STEPS)))
    return found


def test_the_best_policy_is_near_the_best_return_and_random_play_far_below():
    rng = np.random.default_rng(0)
    assert np.mean(returns(best_action)) == pytest.approx(39.1, abs=0.2)
    random = returns(lambda _: rng.uniform(-1, 1, 1).astype(np.float32))
    assert np.mean(random) == pytest.approx(11.7, abs=2.5)


def test_an_episode_is_cut_off_and_the_image_shows_hand_and_goal():
    env = make_env()
    image, _ = env.reset(seed=1)
    assert {0, 128, 255} == set(np.unique(image))
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(EPISODE_STEPS)]
    assert ends == [(False, False)] * (EPISODE_STEPS - 1) + [(False, True)]
