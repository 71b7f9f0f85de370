"""Gymnasium environments that do not fit, fail or cannot be found: a clear word about each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import EnvironmentCrashed, UnsupportedEnvironment
from dreamer_core.envs.suites import make_env
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot


def test_an_environment_without_image_or_numbers_is_refused_with_the_way_to_its_rendering():
    config = EnvConfig(suite="gymnasium", task="Blackjack-v1")
    with pytest.raises(UnsupportedEnvironment, match=r"Tuple.*AddRenderObservation"):
        make_env(config, 0)


def test_grayscale_images_are_refused_where_colour_is_wanted(wrap: Wrap):
    with pytest.raises(UnsupportedEnvironment, match="set is_grayscale=True"):
        wrap(Counting((64, 64, 1)), is_grayscale=False)


def test_what_is_no_gymnasium_environment_is_refused(wrap: Wrap):
    with pytest.raises(UnsupportedEnvironment, match=r"must make a gymnasium\.Env, but made str"):
        wrap("environment")


def test_spaces_of_another_package_are_told_as_such(wrap: Wrap):
    old = type("Box", (), {"__module__": "gym.spaces.box", "shape": (64, 64, 1)})()
    inner = Counting()
    inner.observation_space = old
    with pytest.raises(UnsupportedEnvironment, match=r"it is a gym\.spaces\.box\.Box and no space"):
        wrap(inner)
    with pytest.raises(UnsupportedEnvironment, match=r"It is a gym\.spaces\.box\.Box and no space"):
        wrap(Counting(action_space=old))


def test_choices_of_more_values_than_there_is_memory_for_are_refused(wrap: Wrap):
    inner = Counting()
    inner.observation_space = spaces.Discrete(10**9)
    with pytest.raises(UnsupportedEnvironment, match="a vector of 1,000,000,000 numbers"):
        wrap(inner)
    with pytest.raises(UnsupportedEnvironment, match="an action of 70,000 numbers"):
        wrap(Counting(action_space=spaces.MultiDiscrete([35_000, 35_000])))


def test_one_of_other_sizes_than_the_runs_is_refused_and_closed(wrap: Wrap):
    inner, closed = Counting(), list[bool]()
    spec = wrap(inner).spec
    inner.action_space, inner.close = spaces.Discrete(4), lambda: closed.append(True)
    config = EnvConfig(suite="gymnasium", task="module_of_a_user:make_inner", action_repeat=1)
    with pytest.raises(UnsupportedEnvironment, match=r"of other sizes than before.*action_size=4"):
        make_env(config, 0, spec)
    assert closed == [True]


@pytest.mark.parametrize("reward", [np.nan, np.inf, np.ones(2), np.ones(1), "1", [1.0]])
def test_a_reward_that_is_not_one_finite_number_is_a_crash(wrap: Wrap, reward: Any):
    inner = Counting()
    inner.reward = reward
    env = wrap(inner)
    env.reset()
    with pytest.raises(EnvironmentCrashed, match="one finite number as the reward"):
        env.step(one_hot(0))


def fail(*_: Any, **__: Any) -> Any:
    message = "wheels fell off"
    raise ArithmeticError(message)


@pytest.mark.parametrize("method", ["reset", "step", "close"])
def test_an_exception_of_the_environment_is_a_crash_that_names_it(wrap: Wrap, method: str):
    inner = Counting()
    env = wrap(inner)
    env.reset()
    setattr(inner, method, fail)
    calls = {"reset": env.reset, "step": lambda: env.step(one_hot(0)), "close": env.close}
    message = f"make_inner raised ArithmeticError during {method}: wheels fell off"
    with pytest.raises(EnvironmentCrashed, match=message) as crash:
        calls[method]()
    assert isinstance(crash.value.__cause__, ArithmeticError)
    with pytest.raises(ValueError, match="call reset first"):
        env.step(one_hot(0))


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("observation", [[1], [1, 2]], "raised ValueError during reading its observation"),
        ("reward", [[1], [1, 2]], "must return one finite number as the reward"),
        ("end", np.ones(2), "must return True or False as terminated, but returned an array"),
        ("end", None, "must return True or False as terminated, but returned None"),
    ],
)
def test_what_numpy_makes_nothing_of_is_a_crash(wrap: Wrap, what: str, value: Any, message: str):
    answer = {"observation": np.zeros((64, 64, 1), np.uint8), "reward": 0.0, "end": False}
    observation, reward, end = (answer | {what: value}).values()
    inner = Counting()
    env = wrap(inner)
    env.reset()
    inner.step = lambda _: (observation, reward, end, False, {})
    with pytest.raises(EnvironmentCrashed, match=message):
        env.step(one_hot(0))
