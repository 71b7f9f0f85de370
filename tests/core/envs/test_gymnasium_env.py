"""Gymnasium environments: counted steps, rescaled actions, and a clear word when they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
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
from dreamer_core.types import FloatArray


class Counting(gymnasium.Env[Any, Any]):
    """Shows the number of the frame as the gray level; reward k at frame k; ends at `length`."""

    def __init__(
        self,
        shape: tuple[int, ...] = (64, 64, 1),
        action_space: spaces.Space[Any] | None = None,
        length: int = 10,
        is_truncated: bool = False,
    ) -> None:
        self.shape = shape
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = action_space or spaces.Discrete(3)
        self.length, self.is_truncated = length, is_truncated
        self.frame = 0
        self.seeds: list[int | None] = []
        self.actions: list[Any] = []
        self.reward: Any = None

    def observe(self) -> Any:
        return np.full(self.shape, self.frame, np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.frame = 0
        self.seeds.append(seed)
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.frame += 1
        self.actions.append(action)
        is_end = self.frame == self.length
        reward = self.frame if self.reward is None else self.reward
        ends = (is_end and not self.is_truncated, is_end and self.is_truncated)
        return self.observe(), reward, *ends, {}


Wrap = Callable[..., Environment]


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Wrap:
    """Returns a function that makes an environment from an instance, through its task name."""
    module = ModuleType("module_of_a_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(inner: Any, *, seed: int = 0, **fields: Any) -> Environment:
        vars(module)["make_inner"] = lambda: inner
        defaults = {"action_repeat": 1, "task": "module_of_a_user:make_inner"}
        return make_env(EnvConfig(suite="gymnasium", **{**defaults, **fields}), seed)

    return make


def one_hot(index: int, size: int = 3) -> FloatArray:
    return np.eye(size, dtype=np.float32)[index]


def vector(values: Sequence[float]) -> FloatArray:
    return np.array(values, np.float32)


def test_row_by_row_the_image_counts_the_steps(wrap: Wrap):
    env = wrap(Counting(length=3))
    steps = [env.reset(), *(env.step(one_hot(0)) for _ in range(3))]
    assert [int(step.image[5, 5, 0]) for step in steps] == [0, 1, 2, 3]
    assert [step.reward for step in steps] == [0, 1, 2, 3]
    assert [step.is_last for step in steps] == [False, False, False, True]
    assert [step.is_terminal for step in steps] == [False, False, False, True]


def test_action_repeat_sums_rewards_and_stops_at_the_end(wrap: Wrap):
    env = wrap(Counting(length=6), action_repeat=4)
    env.reset()
    first, second = env.step(one_hot(0)), env.step(one_hot(0))
    assert (first.reward, first.image[0, 0, 0], first.is_last) == (1 + 2 + 3 + 4, 4, False)
    assert (second.reward, second.image[0, 0, 0], second.is_last) == (5 + 6, 6, True)


def test_truncation_is_last_and_not_terminal(wrap: Wrap):
    env = wrap(Counting(length=1, is_truncated=True))
    env.reset()
    step = env.step(one_hot(0))
    assert step.is_last and not step.is_terminal


def test_a_time_limit_is_last_and_not_terminal(wrap: Wrap):
    env = wrap(Counting(), time_limit_steps=2)
    env.reset()
    steps = [env.step(one_hot(0)), env.step(one_hot(0))]
    assert [step.is_last for step in steps] == [False, True]
    assert not steps[1].is_terminal
    with pytest.raises(ValueError, match="call reset first"):
        env.step(one_hot(0))


def test_the_first_reset_alone_gets_the_seed(wrap: Wrap):
    inner = Counting()
    env = wrap(inner, seed=7)
    env.reset()
    env.reset()
    assert inner.seeds == [7, None]


def test_discrete_actions_begin_at_the_start_of_their_space(wrap: Wrap):
    inner = Counting(action_space=spaces.Discrete(3, start=5))
    env = wrap(inner)
    env.reset()
    for index in range(3):
        env.step(one_hot(index))
    assert inner.actions == [5, 6, 7]
    assert env.spec.action_size == 3 and env.spec.is_discrete


def test_continuous_actions_are_rescaled_to_the_bounds(wrap: Wrap):
    inner = Counting(action_space=spaces.Box(vector([-2, 10]), vector([2, 20])))
    env = wrap(inner)
    env.reset()
    for action in ([-1, -1], [0, 0], [1, 0.5], [1 + 1e-6, -1 - 1e-6]):
        env.step(vector(action))
    expected = [[-2, 10], [0, 15], [2, 17.5], [2, 10]]
    assert [action.tolist() for action in inner.actions] == expected
    assert all(inner.action_space.contains(action) for action in inner.actions)
    assert env.spec.action_size == 2 and not env.spec.is_discrete


@pytest.mark.parametrize("action", [[0], [0, 0, 0], [np.nan, 0], [np.inf, 0], [1.1, 0], [0, -2]])
def test_a_continuous_action_out_of_form_is_refused(wrap: Wrap, action: list[float]):
    env = wrap(Counting(action_space=spaces.Box(-1, 1, (2,))))
    env.reset()
    with pytest.raises(ValueError, match=r"in \[-1, 1\] and of shape \(2,\)"):
        env.step(vector(action))


def test_a_discrete_action_out_of_form_is_refused_and_the_episode_goes_on(wrap: Wrap):
    env = wrap(Counting())
    env.reset()
    with pytest.raises(ValueError, match="one-hot"):
        env.step(vector([0.5, 0.5, 0]))
    assert env.step(one_hot(0)).reward == 1


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 3), (16, 16, 3), (210, 160)])
def test_images_of_any_size_become_64_by_64(wrap: Wrap, shape: tuple[int, ...]):
    env = wrap(Counting(shape))
    assert env.reset().image.shape == env.spec.image_shape == (64, 64, 1)
    image = env.step(one_hot(0)).image
    assert image.dtype == np.uint8 and (image == 1).all()


def test_colour_becomes_luma_or_stays(wrap: Wrap):
    inner = Counting((64, 64, 3))
    inner.observe = lambda: np.full((64, 64, 3), [200, 100, 50], np.uint8)
    gray = wrap(inner).reset().image
    colour = wrap(inner, is_grayscale=False).reset().image
    assert (gray == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    assert (colour == [200, 100, 50]).all()


@pytest.mark.parametrize("shape", [(210, 160), (210, 160, 3), (16, 16, 1)])
def test_the_screen_is_the_newest_observed_image_in_its_own_size(
    wrap: Wrap, shape: tuple[int, ...]
):
    env = wrap(Counting(shape))
    env.reset()
    env.step(one_hot(0))
    screen = env.screen()
    assert screen.shape == (*shape[:2], 3 if shape[2:] == (3,) else 1)
    assert (screen == 1).all()


def test_a_screen_before_the_first_reset_is_refused(wrap: Wrap):
    with pytest.raises(ValueError, match="call reset first"):
        wrap(Counting()).screen()


def test_an_image_may_lie_under_the_key_image(wrap: Wrap):
    inner = Counting()
    space = inner.observation_space
    inner.observation_space = spaces.Dict({"image": space, "speed": spaces.Box(0, 1)})
    inner.observe = lambda: {"image": np.full((64, 64, 1), inner.frame, np.uint8)}
    env = wrap(inner)
    env.reset()
    assert (env.step(one_hot(0)).image == 1).all()


def test_an_observation_buffer_that_is_reused_does_not_change_earlier_images(wrap: Wrap):
    inner, buffer = Counting(), np.zeros((64, 64, 1), np.uint8)

    def observe() -> Any:
        buffer[:] = inner.frame
        return buffer

    inner.observe = observe
    env = wrap(inner)
    first = env.reset().image
    env.step(one_hot(0))
    assert (first == 0).all()


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


@pytest.mark.parametrize("reward", [True, np.float32(1), np.array(1.0), np.int64(1)])
def test_any_scalar_reward_becomes_a_float(wrap: Wrap, reward: Any):
    inner = Counting()
    inner.reward = reward
    env = wrap(inner)
    env.reset()
    step = env.step(one_hot(0))
    assert step.reward == 1.0 and type(step.reward) is float


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
