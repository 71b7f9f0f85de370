"""Which part of an observation is the image, and how it becomes uint8 [64, 64, channels]."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import EnvironmentCrashed, UnsupportedEnvironment
from dreamer_core.envs.observations import image_flaw
from dreamer_core.errors import BadInput
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot

IMAGE = spaces.Box(0, 255, (64, 64, 1), np.uint8)


class Showing(Counting):
    """Observes what it is given, of the space it is given."""

    def __init__(self, space: spaces.Space[Any], observation: Any) -> None:
        super().__init__()
        self.observation_space, self.observe = space, lambda: observation


@pytest.mark.parametrize("shape", [(3, 70, 80), (70, 80, 3), (1, 70, 80), (70, 80), (16, 16, 3)])
def test_the_short_axis_holds_the_channels(wrap: Wrap, shape: tuple[int, ...]):
    env = wrap(Showing(spaces.Box(0, 255, shape, np.uint8), np.full(shape, 7, np.uint8)))
    assert (env.reset().image == 7).all()
    height, width = sorted(shape)[-2:]
    assert env.screen().shape == (height, width, 3 if 3 in shape else 1)


def test_channels_first_and_last_show_the_same_image(wrap: Wrap):
    image = np.random.default_rng(0).integers(256, size=(70, 80, 3)).astype(np.uint8)
    first = np.ascontiguousarray(image.transpose(2, 0, 1))
    images = [
        wrap(Showing(spaces.Box(0, 255, x.shape, np.uint8), x), is_grayscale=False).reset().image
        for x in (image, first)
    ]
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize(
    ("bounds", "dtype", "value", "expected"),
    [
        ((0, 1), np.float32, 100 / 255, 100),
        ((0, 1), np.float64, 1.0, 255),
        ((-1, 1), np.float32, 0.0, 128),
        ((-0.5, 0.5), np.float32, -0.5, 0),
        ((0, 255), np.float32, 77.0, 77),
        ((0, 255), np.int64, 77, 77),
        ((0, 65535), np.uint16, 257 * 9, 9),
        ((0, 1), np.float32, 1.04, 255),  # as interpolation overshoots
    ],
)
def test_other_numbers_are_rescaled_by_their_declared_bounds(
    wrap: Wrap, bounds: tuple[float, float], dtype: Any, value: float, expected: int
):
    space = spaces.Box(*bounds, (64, 64, 3), dtype)
    env = wrap(Showing(space, np.full((64, 64, 3), value, dtype)))
    assert (env.reset().image == expected).all()


@pytest.mark.parametrize("value", [2.0, -0.2, np.nan, np.inf, 1e300])
def test_a_pixel_beyond_its_declared_bounds_is_a_crash(wrap: Wrap, value: float):
    inner = Showing(spaces.Box(0, 1, (64, 64)), np.full((64, 64), value))
    with pytest.raises(EnvironmentCrashed, match=r"values from 0 to 1, but returned"):
        wrap(inner).reset()


@pytest.mark.parametrize("keys", [("pixels",), ("sensors", "camera", "rgb")])
def test_the_only_image_of_a_dict_is_found_without_its_name(wrap: Wrap, keys: tuple[str, ...]):
    space: Any = IMAGE
    observation: Any = np.full((64, 64, 1), 5, np.uint8)
    for key in reversed(keys):
        space = spaces.Dict({key: space, "speed": spaces.Box(0, 1, (3,))})
        observation = {key: observation}
    assert (wrap(Showing(space, observation)).reset().image == 5).all()
    named = wrap(Showing(space, observation), image_key="/".join(keys))
    assert (named.reset().image == 5).all()


def test_of_several_images_one_has_to_be_named(wrap: Wrap):
    space = spaces.Dict({"left": IMAGE, "right": IMAGE, "speed": spaces.Box(0, 1)})
    images = {"left": np.zeros((64, 64, 1), np.uint8), "right": np.ones((64, 64, 1), np.uint8)}
    with pytest.raises(UnsupportedEnvironment, match=r"left, right; name the one.*--env.image-key"):
        wrap(Showing(space, images))
    assert (wrap(Showing(space, images), image_key="right").reset().image == 1).all()


def test_of_several_images_the_one_under_the_key_image_is_taken(wrap: Wrap):
    space = spaces.Dict({"image": IMAGE, "mask": IMAGE})
    images = {"image": np.ones((64, 64, 1), np.uint8), "mask": np.zeros((64, 64, 1), np.uint8)}
    assert (wrap(Showing(space, images)).reset().image == 1).all()


def test_a_name_that_is_no_key_is_refused_with_those_there_are(wrap: Wrap):
    space = spaces.Dict({"left": IMAGE, "robot": spaces.Dict({"speed": spaces.Box(0, 1)})})
    with pytest.raises(UnsupportedEnvironment, match="whose keys are left, robot/speed"):
        wrap(Showing(space, None), image_key="right")
    with pytest.raises(UnsupportedEnvironment, match="whose keys are none: it is no Dict"):
        wrap(Counting(), image_key="right")
    with pytest.raises(UnsupportedEnvironment, match="robot/speed has not two or three axes"):
        wrap(Showing(space, None), image_key="robot/speed")
    with pytest.raises(BadInput, match="image_key is for suite=gymnasium alone"):
        EnvConfig(image_key="left")


@pytest.mark.parametrize(
    ("space", "flaw"),
    [
        (spaces.Text(4), "is no Box"),
        (spaces.Box(0, 255, (2, 2, 2, 2, 2), np.uint8), "has not two or three axes"),
        (spaces.Box(0, 255, (15, 64), np.uint8), "has a side below 16 pixels"),
        (spaces.Box(0, 255, (3, 64, 3), np.uint8), "has a side below 16 pixels"),
        (spaces.Box(0, 255, (64, 64, 4), np.uint8), "has 4 channels.*a stack of frames.*RGBA"),
        (spaces.Box(0, 255, (9, 64, 64), np.uint8), "has 9 channels.*a stack of frames"),
        (spaces.Box(0, 255, (4, 64, 64, 3), np.uint8), "has four axes, as a stack of frames"),
        (spaces.Box(-np.inf, np.inf, (64, 64)), "declares no bounds.*TransformObservation"),
        (spaces.Box(-3e38, 3e38, (64, 64)), "declares no bounds"),
        (spaces.Box(0, 3, (8, 8), np.int64), "has a side below"),
    ],
)
def test_what_is_no_image_is_refused_with_its_flaw(wrap: Wrap, space: spaces.Space[Any], flaw: str):
    with pytest.raises(UnsupportedEnvironment, match=f"must observe an image.*: it {flaw}"):
        wrap(Showing(space, None))
    with pytest.raises(UnsupportedEnvironment, match=f"a {flaw}.*; b is no Box"):
        wrap(Showing(spaces.Dict({"a": space, "b": spaces.Discrete(2)}), None))
    assert image_flaw(IMAGE) is None


@pytest.mark.parametrize("size", [3, 4])
def test_frames_that_a_wrapper_stacks_are_refused_by_its_name(wrap: Wrap, size: int):
    stacked = gymnasium.wrappers.FrameStackObservation(Counting((64, 64)), size)
    with pytest.raises(UnsupportedEnvironment, match=r"FrameStackObservation.*take that wrapper"):
        wrap(stacked)
    newest = spaces.Box(0, 255, (64, 64), np.uint8)
    taken = gymnasium.wrappers.TransformObservation(stacked, lambda frames: frames[-1], newest)
    env = wrap(taken)
    env.reset()
    assert (env.step(one_hot(0)).image == 1).all()


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
    with pytest.raises(EnvironmentCrashed, match="KeyError during reading its observation"):
        wrap(inner).reset()


def test_truth_values_are_an_image_of_black_and_white(wrap: Wrap):
    shown = np.arange(64 * 64).reshape(64, 64) % 2 == 0
    image = wrap(Showing(spaces.Box(0, 1, (64, 64), np.bool_), shown)).reset().image
    assert (image[..., 0] == np.where(shown, 255, 0)).all()


@pytest.mark.parametrize(
    ("space", "size"),
    [(spaces.MultiBinary((2, 3)), 6), (spaces.MultiDiscrete(np.array([[3, 4], [2, 2]])), 11)],
)
def test_choices_of_several_axes_are_a_vector_without_a_name(
    wrap: Wrap, space: spaces.Space[Any], size: int
):
    vector = wrap(Showing(space, space.sample())).reset().vector
    assert vector is not None and vector.shape == (size,) and set(vector) <= {0, 1}


def test_numbers_of_several_axes_are_refused_with_the_wrapper_that_flattens_them(wrap: Wrap):
    board = Showing(spaces.Box(0, 3, (8, 8), np.int64), np.ones((8, 8), np.int64))
    with pytest.raises(UnsupportedEnvironment, match="FlattenObservation"):
        wrap(board)
    vector = wrap(gymnasium.wrappers.FlattenObservation(board)).reset().vector
    assert vector is not None and vector.tolist() == [1] * 64
