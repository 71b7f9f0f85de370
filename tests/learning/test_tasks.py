"""Each task of the suite returns what the suite says, is seeded, and can be played by its name."""

import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.suites import make_env
from tests.learning.tasks import TASKS

EPISODES = 30
by_name = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def returns(env, policy, episodes=EPISODES):
    """Of so many episodes, the first with a seed."""
    found = []
    for number in range(episodes):
        env.reset(seed=0 if number == 0 else None)
        total, is_over = 0.0, False
        while not is_over:
            _, reward, is_terminal, is_truncated, _ = env.step(policy(env))
            total, is_over = total + float(reward), is_terminal or is_truncated
        found.append(total)
    return found


def agrees(found, expected):
    """Whether a mean is within four standard errors, or what rounding hides."""
    return abs(np.mean(found) - expected) <= 4 * np.std(found) / len(found) ** 0.5 + 0.02


@by_name
def test_the_best_policy_and_random_play_return_what_the_suite_says(task):
    env = task.env()
    env.action_space.seed(0)
    assert agrees(returns(env, task.best_action()), task.best)
    assert agrees(returns(env, lambda _: env.action_space.sample()), task.random)


@by_name
def test_the_same_seed_plays_the_same_episode(task):
    def images():
        env = task.env()
        env.action_space.seed(3)
        first, _ = env.reset(seed=3)
        return [first, *(env.step(env.action_space.sample())[0] for _ in range(9))]

    assert np.array_equal(images(), images())


@by_name
def test_it_can_be_played_through_its_name(task):
    config = EnvConfig(suite="gymnasium", task=task.env_task, action_repeat=1)
    env = make_env(config, 0)
    first = env.reset()
    assert first.image.shape[:2] == (64, 64) and first.image.max() > 0
