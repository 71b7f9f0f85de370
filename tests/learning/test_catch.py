"""Catch has the returns that theory gives it, so a learning curve on it can be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.suites import make_env as make_wrapped
from tests.learning.catch import BALLS, EPISODE_STEPS, Catch, best_action, make_env


def episode(env: Catch, policy: Callable[[Catch], int], seed: int | None = None) -> list[float]:
    """Plays one episode and returns its rewards."""
    env.reset(seed=seed)
    rewards: list[float] = []
    is_over = False
    while not is_over:
        _, reward, is_over, is_truncated, _ = env.step(policy(env))
        assert not is_truncated
        rewards.append(reward)
    return rewards


def test_the_best_policy_catches_every_ball():
    env = make_env()
    env.reset(seed=0)
    assert {sum(episode(env, best_action)) for _ in range(100)} == {BALLS}


def test_random_play_returns_what_theory_says():
    env, rng = make_env(), np.random.default_rng(0)
    env.reset(seed=0)
    returns = [sum(episode(env, lambda _: int(rng.integers(3)))) for _ in range(500)]
    standard_error = (BALLS * (1 - 1 / 9) / 500) ** 0.5
    assert np.mean(returns) == pytest.approx(-BALLS / 3, abs=3 * standard_error)


def test_rewards_come_as_each_ball_lands_and_the_last_ends_the_episode():
    rewards = episode(make_env(), best_action, seed=0)
    assert len(rewards) == EPISODE_STEPS
    assert np.flatnonzero(rewards).tolist() == [8, 18, 28, 38, 48]


def test_the_same_seed_drops_the_same_balls():
    assert episode(make_env(), lambda _: 1, seed=4) == episode(make_env(), lambda _: 1, seed=4)


def test_the_image_shows_ball_and_paddle_where_they_are():
    env = make_env()
    image, _ = env.reset(seed=0)
    assert image.shape == (64, 64, 1) and image.dtype == np.uint8
    rows, columns, _ = np.nonzero(image == 255)
    assert (rows.min(), rows.max()) == (2, 7)
    assert columns.min() == 7 * env.ball_column and len(rows) == 6 * 7
    rows, columns, _ = np.nonzero(image == 128)
    assert (rows.min(), rows.max()) == (56, 61)
    assert (columns.min(), columns.max()) == (21, 41)


def test_catch_can_be_played_through_its_task_name():
    task = "tests.learning.catch:make_env"
    env = make_wrapped(EnvConfig(suite="gymnasium", task=task, action_repeat=1), 0)
    assert env.spec.image_shape == (64, 64, 1) and env.spec.action_size == 3
    assert env.reset().image.max() == 255
