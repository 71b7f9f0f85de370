"""Numbers that are seen besides an image, or alone."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import EnvironmentCrashed, UnsupportedEnvironment
from dreamer_core.envs.suites import make_env
from dreamer_core.errors import BadInput
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot

FREE = spaces.Box(-np.inf, np.inf, (2,))
EYES = spaces.Box(0, 255, (64, 64, 1), np.uint8)
SPACE = spaces.Dict({
    "eyes": EYES,
    "position": FREE,
    "robot": spaces.Dict({"grip": spaces.Box(0, 1, (2, 2)), "mode": spaces.Discrete(3, start=5)}),
    "parts": spaces.MultiDiscrete([2, 3]),
    "lamps": spaces.MultiBinary(2),
    "name": spaces.Text(3),
})  # fmt: skip


def observation(**others: Any) -> dict[str, Any]:
    return {
        "eyes": np.full((64, 64, 1), 9, np.uint8),
        "position": np.array([-3.5, 1e20], np.float64),
        "robot": {"grip": np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), "mode": 6},
        "parts": np.array([1, 2]),
        "lamps": np.array([0, 1], np.int8),
        "name": "abc",
        **others,
    }


class Showing(Counting):
    """Observes what it is given, of the space it is given."""

    def __init__(self, space: spaces.Space[Any], seen: Any) -> None:
        super().__init__()
        self.observation_space, self.observe = space, lambda: seen


def test_named_numbers_are_seen_in_the_order_of_their_names_besides_the_image(wrap: Wrap):
    keys = ("robot/mode", "position", "robot/grip", "lamps", "parts")
    env = wrap(Showing(SPACE, observation()), vector_keys=keys)
    for step in (env.reset(), env.step(one_hot(0))):
        assert step.vector is not None and step.vector.dtype == np.float32
        mode, position, grip = [0, 1, 0], [-3.5, 1e20], [0.1, 0.2, 0.3, 0.4]
        expected = [*mode, *position, *grip, *(0, 1), *(0, 1), *(0, 0, 1)]
        np.testing.assert_allclose(step.vector, expected, rtol=1e-6)
        assert (step.image == 9).all()
    assert (env.spec.vector_size, env.spec.image_shape) == (16, (64, 64, 1))


def test_nothing_besides_the_image_is_seen_unless_it_is_named(wrap: Wrap):
    env = wrap(Showing(SPACE, observation()))
    assert env.reset().vector is None and env.spec.vector_size == 0


def test_named_numbers_are_enough_where_there_is_no_image(wrap: Wrap):
    space = spaces.Dict({"position": FREE, "speed": FREE})
    inner = Showing(space, {"position": np.ones(2), "speed": np.zeros(2)})
    env = wrap(inner, vector_keys=("position",), is_grayscale=False)
    step = env.reset()
    assert step.vector is not None and step.vector.tolist() == [1, 1]
    assert step.image.shape == env.spec.image_shape == (64, 64, 0)
    with pytest.raises(UnsupportedEnvironment, match=r"--env\.vector-keys.*position has not two"):
        wrap(inner)


def test_the_parts_of_a_tuple_are_named_by_their_places(wrap: Wrap):
    space = spaces.Tuple([FREE, EYES, spaces.Dict({"mode": spaces.Discrete(2)})])
    seen = (np.ones(2), np.full((64, 64, 1), 5, np.uint8), {"mode": 1})
    step = wrap(Showing(space, seen), vector_keys=("2/mode", "0")).reset()
    assert step.vector is not None and step.vector.tolist() == [0, 1, 1, 1]
    assert (step.image == 5).all()


@pytest.mark.parametrize(
    ("space", "seen", "expected"),
    [
        (FREE, np.array([1, 2], np.float32), [1, 2]),
        (spaces.Box(-1, 1, ()), np.float32(0.5), [0.5]),
        (spaces.Discrete(4), np.int64(2), [0, 0, 1, 0]),
        (spaces.Discrete(4), 2, [0, 0, 1, 0]),
        (spaces.Box(0, 255, (3,), np.uint8), np.array([7, 0, 255], np.uint8), [7, 0, 255]),
    ],
)
def test_an_observation_that_is_a_vector_needs_no_name(
    wrap: Wrap, space: spaces.Space[Any], seen: Any, expected: list[float]
):
    step = wrap(Showing(space, seen)).reset()
    assert step.vector is not None and step.vector.tolist() == expected


def test_a_buffer_that_is_reused_does_not_change_earlier_vectors(wrap: Wrap):
    buffer = np.zeros(2, np.float32)
    env = wrap(Showing(FREE, buffer))
    first = env.reset().vector
    buffer[:] = 1
    assert first is not None and first.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("keys", "flaw"),
    [
        (("speed",), "speed is no part of it.*eyes, lamps, name, parts, position"),
        (("position", "name"), "name is no Box"),
        (("robot",), "robot is no part of it"),
    ],
)
def test_a_name_that_is_no_vector_is_refused_with_those_there_are(
    wrap: Wrap, keys: tuple[str, ...], flaw: str
):
    with pytest.raises(UnsupportedEnvironment, match=flaw):
        wrap(Showing(SPACE, observation()), vector_keys=keys)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("position", np.zeros(3), r"declares position as Box.*float64 of shape \(3,\)"),
        ("position", "far", "returned <U3"),
        ("position", np.array([0, np.nan]), "number in position that is not finite in float32"),
        ("position", np.array([0, 1e300]), "number in position that is not finite in float32"),
        ("parts", np.array([1, 3]), r"declares parts as MultiDiscrete.*returned array\(\[1, 3\]\)"),
        ("parts", np.array([-1, 0]), "declares parts as MultiDiscrete"),
        ("parts", np.array([0.5, 0]), "declares parts as MultiDiscrete"),
    ],
)
def test_numbers_unlike_the_declared_ones_are_a_crash(
    wrap: Wrap, key: str, value: Any, message: str
):
    env = wrap(Showing(SPACE, observation(**{key: value})), vector_keys=(key,))
    with pytest.raises(EnvironmentCrashed, match=message):
        env.reset()


def test_frames_of_numbers_that_a_wrapper_stacks_are_refused(wrap: Wrap):
    stacked = gymnasium.wrappers.FrameStackObservation(Showing(FREE, np.zeros(2)), 4)
    with pytest.raises(UnsupportedEnvironment, match="take that wrapper off"):
        wrap(stacked)


def test_keys_are_for_gymnasium_alone():
    with pytest.raises(BadInput, match="vector_keys is for suite=gymnasium alone"):
        EnvConfig(vector_keys=("position",))


# What a person sees of it


def test_without_an_image_the_screen_shows_bars(wrap: Wrap):
    env = wrap(Showing(FREE, np.array([1, -1], np.float32)))
    with pytest.raises(ValueError, match="call reset first"):
        env.screen()
    env.reset()
    assert env.screen().shape == (64, 64, 1)
    assert (env.screen()[20, :, 0] == [255] * 32 + [0] * 32).all()


def test_without_an_image_the_screen_shows_what_the_environment_renders():
    task = "tests.core.envs.test_vectors:make_rendered"
    env = make_env(EnvConfig(suite="gymnasium", task=task), 0)
    env.reset()
    assert (env.screen() == [1, 2, 3]).all() and env.screen().shape == (5, 6, 3)


def make_rendered() -> gymnasium.Env[Any, Any]:
    return rendering(lambda: np.full((5, 6, 3), [1, 2, 3], np.uint8))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4)])
def test_the_screen_shows_a_rendered_picture_of_any_form_without_its_alpha(
    wrap: Wrap, shape: tuple[int, ...]
):
    env = wrap(rendering(lambda: np.full(shape, 9, np.uint8)))
    env.reset()
    assert env.screen().shape == (5, 6, 3 if shape[2:] in ((3,), (4,)) else 1)


@pytest.mark.parametrize(
    ("render", "said"),
    [
        (lambda: None, "render returned None"),
        (lambda: [np.zeros((5, 6, 3), np.uint8)], "render returned"),
        (lambda: np.zeros((5, 6, 3)), "an array of float64 and shape"),
        (lambda: np.zeros((5, 6, 2), np.uint8), "an array of uint8 and shape"),
        (lambda: 1 / 0, "raised ZeroDivisionError during render"),
    ],
)
def test_one_that_fails_to_render_is_a_warning_and_its_screen_shows_bars(
    wrap: Wrap, caplog: Any, render: Any, said: str
):
    env = wrap(rendering(render))
    env.reset()
    assert [env.screen().shape for _ in range(2)] == [(64, 64, 1)] * 2
    assert said in caplog.text and caplog.text.count("shown as bars") == 1


def rendering(render: Any) -> gymnasium.Env[Any, Any]:
    inner = Showing(FREE, np.zeros(2, np.float32))
    inner.render_mode, inner.render = "rgb_array", render
    return inner
