"""Gymnasium environments: counted steps, rescaled actions, images of any size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, MaxAndSkipObservation

from dreamer_core.config import EnvConfig
from dreamer_core.envs.gymnasium import GymnasiumEnvironment
from dreamer_core.envs.suites import environment_spec, opened
from dreamer_core.storage.identity import environment_facts
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot


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


@pytest.mark.parametrize("reward", [True, np.float32(1), np.array(1.0), np.int64(1)])
def test_any_scalar_reward_becomes_a_float(wrap: Wrap, reward: Any):
    inner = Counting()
    inner.reward = reward
    env = wrap(inner)
    env.reset()
    step = env.step(one_hot(0))
    assert step.reward == 1.0 and type(step.reward) is float


@pytest.mark.parametrize(
    ("metadata", "pace"),
    [({"render_fps": 12}, 12), ({}, 30), ({"render_fps": None}, 30), (None, 30)]
    + [({"render_fps": nonsense}, 30) for nonsense in (0, -5, float("nan"), 1e9, "60")],
)
def test_the_pace_is_the_declared_one_if_it_is_sane(wrap: Wrap, metadata: Any, pace: float):
    inner = Counting()
    inner.metadata = metadata
    assert wrap(inner).frames_per_second == pace


@pytest.mark.parametrize(
    ("task", "frames"),
    [("ALE/Pong-v5", 4), ("ale_py:Pong-v4", 3), ("ale_py:PongNoFrameskip-v4", 1)],
)
def test_an_id_that_skips_frames_itself_counts_them_at_the_pace_of_the_console(
    task: str, frames: int
):
    with opened(EnvConfig(suite="gymnasium", task=task, action_repeat=2), seed=0) as env:
        assert env.spec.frames_per_policy_step == 2 * frames
        assert env.frames_per_second == 60


@pytest.mark.parametrize(
    ("limit", "steps"), [(7, 4), (float("inf"), None), ("7", None), (-1, None)]
)
def test_a_limit_of_its_own_is_known_if_it_is_one(wrap: Wrap, limit: Any, steps: int | None):
    inner = Counting()
    inner.spec = SimpleNamespace(max_episode_steps=limit)  # pyright: ignore[reportAttributeAccessIssue]
    assert wrap(inner, action_repeat=2).own_limit_steps == steps


def test_a_policy_step_has_the_frames_that_pass_in_it():
    config = EnvConfig(suite="gymnasium", task="ALE/Pong-v5", action_repeat=2)
    env = GymnasiumEnvironment(config, seed=0)
    ale = env._env.unwrapped.ale
    env.reset()
    before = ale.getEpisodeFrameNumber()
    env.step(one_hot(0, 6))
    assert ale.getEpisodeFrameNumber() - before == env.spec.frames_per_policy_step == 8


def test_wrappers_of_gymnasium_that_skip_are_counted_and_one_step_is_one_frame_else(wrap: Wrap):
    assert wrap(Counting(), action_repeat=3).spec.frames_per_policy_step == 3
    twice = MaxAndSkipObservation(MaxAndSkipObservation(Counting(), skip=2), skip=3)
    assert wrap(twice).spec.frames_per_policy_step == 6
    pong = gymnasium.make("ale_py:PongNoFrameskip-v4", disable_env_checker=True)
    assert wrap(AtariPreprocessing(pong, frame_skip=5)).spec.frames_per_policy_step == 5


def test_frames_are_no_size_so_that_a_trained_agent_fits_whatever_is_skipped():
    specs = [environment_spec(EnvConfig(action_repeat=repeat)) for repeat in (1, 4)]
    assert [spec.frames_per_policy_step for spec in specs] == [1, 4]
    assert specs[0] == specs[1] and environment_facts(specs[0]) == environment_facts(specs[1])
