"""Gymnasium environments that do not fit, fail or cannot be found: a clear word about each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.suites import (
    Environment,
    EnvironmentCrashed,
    UnknownTask,
    UnsupportedEnvironment,
    make_env,
)
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot


def test_cartpole_is_refused_with_the_way_to_its_rendering():
    config = EnvConfig(suite="gymnasium", task="CartPole-v1")
    with pytest.raises(UnsupportedEnvironment, match=r"float32.*AddRenderObservation"):
        make_env(config, 0)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (64, 64, 3), np.float32),
        spaces.Box(0, 255, (128,), np.uint8),
        spaces.Box(0, 255, (3, 64, 64), np.uint8),
        spaces.Box(0, 255, (64, 64, 4), np.uint8),
        spaces.Box(0, 255, (15, 64), np.uint8),
        spaces.Dict({"pixels": spaces.Box(0, 255, (64, 64), np.uint8)}),
        spaces.Discrete(4),
    ],
)
def test_observations_that_are_no_image_are_refused(wrap: Wrap, space: spaces.Space[Any]):
    inner = Counting()
    inner.observation_space = space
    with pytest.raises(UnsupportedEnvironment, match="must observe an image"):
        wrap(inner)


def test_grayscale_images_are_refused_where_colour_is_wanted(wrap: Wrap):
    with pytest.raises(UnsupportedEnvironment, match="set is_grayscale=True"):
        wrap(Counting((64, 64, 1)), is_grayscale=False)


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([2, 3]),
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(0, 9, (2,), np.int64),
        spaces.Box(-1, 1, (0,)),
    ],
)
def test_actions_of_other_kinds_are_refused(wrap: Wrap, space: spaces.Space[Any]):
    with pytest.raises(UnsupportedEnvironment, match="must take Discrete actions or"):
        wrap(Counting(action_space=space))


def test_what_is_no_gymnasium_environment_is_refused(wrap: Wrap):
    with pytest.raises(UnsupportedEnvironment, match=r"must make a gymnasium\.Env, but made str"):
        wrap("environment")


@pytest.mark.parametrize("reward", [np.nan, np.inf, np.ones(2), np.ones(1), "1", [1.0]])
def test_a_reward_that_is_not_one_finite_number_is_a_crash(wrap: Wrap, reward: Any):
    inner = Counting()
    inner.reward = reward
    env = wrap(inner)
    env.reset()
    with pytest.raises(EnvironmentCrashed, match="one finite number as the reward"):
        env.step(one_hot(0))


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 65, 1), np.uint8), np.zeros((64, 64, 1), np.float32), "no image", None],
)
def test_an_observation_unlike_the_declared_one_is_a_crash(wrap: Wrap, image: Any):
    inner = Counting()
    inner.observe = lambda: image
    with pytest.raises(EnvironmentCrashed, match=r"declares a uint8 image of shape \(64, 64, 1\)"):
        wrap(inner).reset()


def test_an_observation_without_its_image_is_a_crash(wrap: Wrap):
    inner = Counting()
    inner.observation_space = spaces.Dict({"image": inner.observation_space})
    inner.observe = dict
    with pytest.raises(EnvironmentCrashed, match="KeyError during reading the observation's \"im"):
        wrap(inner).reset()


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


def make(task: str) -> Environment:
    return make_env(EnvConfig(suite="gymnasium", task=task), 0)


def test_an_exception_while_making_the_environment_is_a_crash():
    with pytest.raises(EnvironmentCrashed, match="ArithmeticError during making the environment"):
        make(f"{__name__}:fail")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("CartPool-v1", "no id that gymnasium.make accepts: .*CartPole"),
        ("not an id", "no id that gymnasium.make accepts"),
        ("no_such_module_here:make_env", "No module named 'no_such_module_here'"),
        ("tests.no_such_module:make_env", "No module named 'tests.no_such_module'"),
        ("tests.learning.catch:make_evn", "callables defined there: Catch, best_action, make_env"),
        ("tests.learning.catch:BALLS", "needs a callable 'BALLS'"),
        (":make_env", "must have the form `package.module:make_env`"),
        ("tests:", "must have the form `package.module:make_env`"),
    ],
)
def test_a_task_that_cannot_be_found_is_answered_with_what_exists(task: str, message: str):
    with pytest.raises(UnknownTask, match=message):
        make(task)


def test_a_module_in_the_current_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = "from tests.learning.catch import make_env\n"
    (tmp_path / "my_game_of_today.py").write_text(source)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert make("my_game_of_today:make_env").spec.action_size == 3


def test_a_module_that_fails_to_import_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_broken_game.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentCrashed, match="ZeroDivisionError during importing my_broken"):
        make("my_broken_game:make_env")


def test_a_registered_id_is_made():
    gymnasium.register("CountingOfTest-v0", lambda **_: Counting())
    assert make("CountingOfTest-v0").reset().image.shape == (64, 64, 1)
