"""What the agent sees of a Gymnasium observation: the one image in it, found by shape and name.

An image has two long sides of MIN_SIDE pixels or more, and one or three channels before or behind
them; sides are never so short, so that the shape alone tells which axis holds the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import UNBOUNDED, EnvironmentCrashed, UnsupportedEnvironment
from dreamer_core.types import UInt8Array

MIN_SIDE = 16
"""Smallest height or width of an observed image, in pixels."""
OVERSHOOT = 0.05
"""Share of the declared range by which a pixel may lie outside, as interpolation makes it."""
_CHANNELS = (1, 3)
_ADVICE = (
    "To observe what it renders, wrap it in gymnasium.wrappers.AddRenderObservation("
    "gymnasium.make(id, render_mode='rgb_array')) and name the function that does so as "
    "`package.module:make_env`"
)


@dataclass(frozen=True, slots=True)
class ObservationPart:
    """One part of an observation that has no parts itself."""

    path: tuple[Any, ...]
    """Keys that lead to it; none where the observation has no parts."""
    space: Any

    @property
    def name(self) -> str:
        """Its keys, joined by slashes."""
        return "/".join(str(key) for key in self.path)

    def of(self, observation: Any) -> Any:
        """Returns this part of an observation."""
        for key in self.path:
            observation = observation[key]
        return np.asarray(observation)


def parts_of(space: Any, path: tuple[Any, ...] = ()) -> list[ObservationPart]:
    """Returns every part of an observation space: of nested Dicts by key, of Tuples by place."""
    if isinstance(space, spaces.Dict):
        inner = cast("dict[Any, Any]", cast(Any, space).spaces)
    elif isinstance(space, spaces.Tuple):
        inner = dict(enumerate(cast("tuple[Any, ...]", cast(Any, space).spaces)))
    else:
        return [ObservationPart(path, space)]
    return [part for key, value in inner.items() for part in parts_of(value, (*path, key))]


def names_of(parts: list[ObservationPart]) -> str:
    """Returns the names of an observation's parts, for words."""
    return ", ".join(part.name for part in parts if part.path) or "none: it is no Dict"


class ImageReader:
    """Brings the image of each observation to uint8 [H, W, channels].

    uint8 is taken as it is. Any other number is rescaled by the bounds that the space declares.

    Args:
        task: for words.
        part: of the observation; an image.
        is_grayscale: whether colour becomes luma.
    """

    def __init__(self, task: str, part: ObservationPart, *, is_grayscale: bool) -> None:
        self._task, self._part, self._is_grayscale = task, part, is_grayscale
        space = part.space
        self._is_channels_first = len(space.shape) == 3 and space.shape[2] not in _CHANNELS
        self._low = space.low.astype(np.float32)
        self._range = space.high.astype(np.float32) - self._low
        self.observed: UInt8Array | None = None
        """The newest image in its own size and colours, [H, W, channels]; None before the first."""

    def read(self, observation: Any) -> UInt8Array:
        """Returns the image of an observation, [H, W, 1 or 3].

        Raises:
            EnvironmentCrashed: it is unlike the declared one.
        """
        image = self._declared(self._part.of(observation))
        image = image.transpose(1, 2, 0) if self._is_channels_first else image
        image = image.reshape(*image.shape[:2], -1)
        self.observed = image
        if self._is_grayscale and image.shape[2] == 3:
            return cast(UInt8Array, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))
        return image

    def _declared(self, image: Any) -> UInt8Array:
        """Returns an image of the declared shape as uint8."""
        space = self._part.space
        is_uint8 = space.dtype == np.uint8
        is_number = image.dtype == np.uint8 if is_uint8 else image.dtype.kind in "biuf"
        if image.shape != space.shape or not is_number:
            raise EnvironmentCrashed(
                f"{self._task} declares a {space.dtype} image of shape {space.shape}, but returned "
                f"{image.dtype} of shape {image.shape}; correct its observation or its space"
            )
        return image if is_uint8 else self._rescaled(image)

    def _rescaled(self, image: Any) -> UInt8Array:
        """Maps the declared bounds to 0 and 255."""
        range_ = np.where(self._range > 0, self._range, 1)
        with np.errstate(over="ignore"):
            share = (image.astype(np.float32) - self._low) / range_
        # Written so that NaN, for which every comparison is false, is refused.
        if not bool(((share >= -OVERSHOOT) & (share <= 1 + OVERSHOOT)).all()):
            space = self._part.space
            raise EnvironmentCrashed(
                f"{self._task} declares image values from {space.low.min():g} to "
                f"{space.high.max():g}, but returned {image.min():g} to {image.max():g}; correct "
                "its observation or the bounds of its space"
            )
        return np.rint(share.clip(0, 1) * 255).astype(np.uint8)


def image_reader(
    config: EnvConfig, env: gymnasium.Env[Any, Any], *, has_vector: bool
) -> ImageReader | None:
    """Returns what reads the image out of an environment's observations; None if a vector is all.

    It is the part that `config.image_key` names. Without a name it is the only image there is, or
    among several the one under "image".

    Args:
        config: of the environment.
        env: whose spaces are asked.
        has_vector: a vector is seen, so that no image need be.

    Raises:
        UnsupportedEnvironment: there is no image, or several, or not in colour where that is
            asked for.
    """
    space: Any = env.observation_space
    _refuse_stacks(config.task, env)
    parts = parts_of(space)
    has_image = any(image_flaw(part.space) is None for part in parts)
    if has_vector and not has_image and config.image_key is None:
        return None
    part = _chosen(config, parts, space)
    channels = 3 if 3 in (part.space.shape[:1] + part.space.shape[2:]) else 1
    if not config.is_grayscale and channels != 3:
        raise UnsupportedEnvironment(
            f"is_grayscale=False needs three channels, but {config.task} observes "
            f"{part.space.shape}; set is_grayscale=True"
        )
    return ImageReader(config.task, part, is_grayscale=config.is_grayscale)


def image_flaw(space: Any) -> str | None:
    """Returns why a part of an observation is not taken as an image; None if it is."""
    if not isinstance(space, spaces.Box):
        return foreign_space_flaw(space) or "is no Box"
    return _shape_flaw(cast("tuple[int, ...]", cast(Any, space).shape)) or _value_flaw(space)


def foreign_space_flaw(space: Any) -> str | None:
    """Returns why what should be a space of Gymnasium is none; None if it is one."""
    if isinstance(space, spaces.Space):
        return None
    kind: Any = type(space)
    return (
        f"is a {kind.__module__}.{kind.__qualname__} and no space of Gymnasium: take those of "
        "gymnasium.spaces, which the ones of the older gym are not"
    )


def _shape_flaw(shape: tuple[int, ...]) -> str | None:
    """Returns why no image has this shape; None if one may."""
    if len(shape) == 4:
        return "has four axes, as a stack of frames: the model remembers by itself, so take one"
    if len(shape) not in (2, 3):
        return "has not two or three axes"
    is_last, is_first = shape[2:] in ((), (1,), (3,)), shape[0] in _CHANNELS
    sides = shape[:2] if is_last else shape[1:] if is_first else sorted(shape)[1:]
    if min(sides) < MIN_SIDE:
        return f"has a side below {MIN_SIDE} pixels"
    if is_last or is_first:
        return None
    return (
        f"has {min(shape)} channels and not 1 or 3: of a stack of frames take the newest, since "
        "the model remembers by itself; of RGBA leave out the alpha, both with "
        "gymnasium.wrappers.TransformObservation"
    )


def _value_flaw(box: Any) -> str | None:
    """Returns why no pixel holds such values; None if one may."""
    if box.dtype.kind not in "biuf":
        return f"holds {box.dtype}"
    bounds = np.abs([box.low.astype(np.float64), box.high.astype(np.float64)])
    if box.dtype == np.uint8 or (bounds < UNBOUNDED).all():
        return None
    return (
        f"declares no bounds that its {box.dtype} values could be rescaled by: give them with "
        "gymnasium.wrappers.TransformObservation(env, lambda x: x, spaces.Box(0, 1, shape))"
    )


def _chosen(config: EnvConfig, parts: list[ObservationPart], space: Any) -> ObservationPart:
    """Returns the part that is the image."""
    named = [part for part in parts if part.name == config.image_key]
    if config.image_key is not None and not named:
        raise UnsupportedEnvironment(
            f"image_key={config.image_key!r} names no part of what {config.task} observes, whose "
            f"keys are {names_of(parts)}"
        )
    candidates = named or parts
    images = [part for part in candidates if image_flaw(part.space) is None]
    if len(images) > 1:
        images = [part for part in images if part.name == "image"] or images
    if len(images) > 1:
        raise UnsupportedEnvironment(
            f"{config.task} observes several images, {', '.join(part.name for part in images)}; "
            "name the one that the agent is to see with --env.image-key"
        )
    if images:
        return images[0]
    flaws = (f"{part.name or 'it'} {image_flaw(part.space)}" for part in candidates)
    raise UnsupportedEnvironment(
        f"{config.task} must observe an image: a Box with shape [H, W], [H, W, 1 or 3] or "
        f"[1 or 3, H, W] and sides of {MIN_SIDE} pixels or more, of uint8 or of other numbers with "
        f"declared bounds, alone or in a Dict; or else numbers: those in a Dict or Tuple are named "
        "with --env.vector-keys, and a Box of several axes that is no image is flattened with "
        f"gymnasium.wrappers.FlattenObservation. It observes {space}: {'; '.join(flaws)}. {_ADVICE}"
    )


def _refuse_stacks(task: str, env: gymnasium.Env[Any, Any]) -> None:
    """Refuses frames that a wrapper stacked: three gray ones would look like the three colours."""
    wrapper: Any = env
    while isinstance(wrapper, gymnasium.Wrapper):
        is_stack = "FrameStack" in type(wrapper).__name__
        if is_stack and wrapper.observation_space == env.observation_space:
            raise UnsupportedEnvironment(
                f"{task} stacks frames with {type(wrapper).__name__}; the model remembers by "
                "itself and sees one observation a step: take that wrapper off"
            )
        wrapper = cast(Any, wrapper).env
