"""Actions of every kind of space, and what is said of the kinds that are not taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TransformAction

from dreamer_core.envs.base import UnsupportedEnvironment
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot, vector


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


def parts(*hot: tuple[int, int]) -> Any:
    """One-hot parts from (index, size) of each."""
    return np.concatenate([one_hot(index, size) for index, size in hot])


def test_each_choice_of_a_multi_discrete_begins_at_its_start(wrap: Wrap):
    inner = Counting(action_space=spaces.MultiDiscrete([2, 3], start=[5, -1]))
    env = wrap(inner)
    env.reset()
    env.step(parts((1, 2), (2, 3)))
    assert inner.actions[0].tolist() == [6, 1]
    assert inner.action_space.contains(inner.actions[0])
    assert (env.spec.action_size, env.spec.action_classes) == (5, (2, 3))
    assert env.spec.is_discrete


def test_a_multi_discrete_of_two_axes_follows_its_memory(wrap: Wrap):
    inner = Counting(action_space=spaces.MultiDiscrete(np.array([[2, 3], [4, 1]])))
    env = wrap(inner)
    env.reset()
    env.step(parts((1, 2), (0, 3), (3, 4), (0, 1)))
    assert inner.actions[0].tolist() == [[1, 0], [3, 0]]
    assert env.spec.action_classes == (2, 3, 4, 1)


@pytest.mark.parametrize("shape", [3, (3,), (1, 3)])
def test_a_multi_binary_is_a_choice_of_two_per_entry(wrap: Wrap, shape: Any):
    inner = Counting(action_space=spaces.MultiBinary(shape))
    env = wrap(inner)
    env.reset()
    env.step(parts((1, 2), (0, 2), (1, 2)))
    assert inner.actions[0].ravel().tolist() == [1, 0, 1]
    assert inner.action_space.contains(inner.actions[0])
    assert env.spec.action_classes == (2, 2, 2)


def test_a_multi_discrete_of_one_choice_is_a_discrete_action(wrap: Wrap):
    env = wrap(Counting(action_space=spaces.MultiDiscrete([4])))
    assert (env.spec.action_size, env.spec.action_classes) == (4, None)


@pytest.mark.parametrize(
    "action", [[1, 0, 1, 0], [1, 0, 0, 0, 0], [1, 0, 0.5, 0.5, 0], [1, 1, 1, 0, 0]]
)
def test_choices_out_of_form_are_refused(wrap: Wrap, action: list[float]):
    env = wrap(Counting(action_space=spaces.MultiDiscrete([2, 3])))
    env.reset()
    with pytest.raises(ValueError, match="one-hot"):
        env.step(vector(action))


@pytest.mark.parametrize("shape", [(), (2, 2), (1, 2, 3)])
def test_a_box_of_any_shape_is_flattened(wrap: Wrap, shape: tuple[int, ...]):
    inner = Counting(action_space=spaces.Box(0, 10, shape, np.float64))
    env = wrap(inner)
    env.reset()
    action = np.linspace(-1, 1, env.spec.action_size).astype(np.float32)
    env.step(action)
    np.testing.assert_allclose(inner.actions[0].ravel(), 5 + 5 * action, atol=1e-6)
    assert inner.action_space.contains(inner.actions[0])


@pytest.mark.parametrize(
    ("space", "advice"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "no bounds.*TransformAction"),
        (spaces.Box(-3e38, 3e38, (2,)), "no bounds.*TransformAction"),
        (spaces.Box(0, 9, (2,), np.int64), "whole numbers: take a MultiDiscrete.*TransformAction"),
        (spaces.Box(-1, 1, (0,)), "has no entries"),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1)]), "Wrap it with.*TransformAction"),
        (spaces.Text(5), "Wrap it with.*TransformAction"),
    ],
)
def test_actions_of_other_kinds_are_refused_with_what_helps(
    wrap: Wrap, space: spaces.Space[Any], advice: str
):
    with pytest.raises(UnsupportedEnvironment, match=f"must take Discrete.*{advice}"):
        wrap(Counting(action_space=space))


def test_the_wrappers_that_the_refusals_name_help(wrap: Wrap):
    whole, free = spaces.Box(0, 9, (2,), np.int64), spaces.Box(-np.inf, np.inf, (2,))
    boxes = spaces.Dict({"arm": spaces.Box(0, 1), "leg": spaces.Box(-1, 0, (2,))})
    pair = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
    for space, function, outer, action in [
        (whole, lambda x: np.rint(x).astype(np.int64), spaces.Box(0, 9, (2,)), vector([1, -1])),
        (free, lambda x: x, spaces.Box(-5, 5, (2,)), vector([1, -1])),
        (boxes, lambda x: spaces.unflatten(boxes, x), spaces.flatten_space(boxes), vector([1] * 3)),
        (pair, tuple, spaces.MultiDiscrete([2, 3]), parts((1, 2), (2, 3))),
    ]:
        inner = Counting(action_space=space)
        env = wrap(TransformAction(inner, function, outer))
        env.reset()
        env.step(action)
        assert inner.action_space.contains(inner.actions[0])
