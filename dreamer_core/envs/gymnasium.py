"""Gymnasium environments that observe an image, brought to the common form."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import (
    IMAGE_SIZE,
    EnvironmentCrashed,
    EnvStep,
    UnknownTask,
    UnsupportedEnvironment,
    bounded_action,
    next_episode_step,
    one_hot_index,
    resize_image,
)
from dreamer_core.errors import DreamerError
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array

OWN_PACKAGES = ("dreamer_core", "services")
"""Names of this program's own packages, which no other package of a process can have."""
MIN_SIDE = 16
"""Smallest height or width of an observed image, in pixels."""


class GymnasiumEnvironment:
    """One environment whose observation is a uint8 image, alone or under the key "image".

    Colour becomes grayscale (luma) if the config asks for it; the opposite is refused, since it
    would only triple the work. Actions are Discrete, or a one-dimensional Box that [-1, 1] is
    rescaled to. `terminated` means `is_terminal`; `truncated` and the time limit do not.
    """

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """Makes the environment and checks its spaces.

        Args:
            config: task, action repeat, time limit and number of channels.
            seed: 0 or more; handed to the first reset.

        Raises:
            UnknownTask: the task names nothing that could be loaded.
            UnsupportedEnvironment: its observations or actions are of a kind not handled.
            EnvironmentCrashed: its own code raised.
        """
        self._config = config
        self._next_seed: int | None = seed
        self._env = _load(config.task)
        with _crash_report(config.task, "telling its spaces"):
            observation_space: Any = self._env.observation_space
            self._image_space = _image_space(config, observation_space)
            self._action_space = _action_space(config.task, self._env.action_space)
        self._has_image_key = isinstance(observation_space, spaces.Dict)
        self._episode_steps: int | None = None
        self._observed: UInt8Array | None = None
        is_discrete = isinstance(self._action_space, spaces.Discrete)
        self._spec = EnvSpec(
            image_shape=(IMAGE_SIZE, IMAGE_SIZE, 1 if config.is_grayscale else 3),
            action_size=_action_size(self._action_space),
            is_discrete=is_discrete,
            action_names=None,
        )

    @property
    def spec(self) -> EnvSpec:
        """Sizes; constant over the environment's life."""
        return self._spec

    def reset(self) -> EnvStep:
        """Starts an episode; the first one hands over the seed.

        Raises:
            EnvironmentCrashed: the environment raised, or broke its declaration.
        """
        self._episode_steps = None
        with _crash_report(self._config.task, "reset"):
            observation, _ = self._env.reset(seed=self._next_seed)
        self._next_seed = None
        image = self._convert(observation)
        self._episode_steps = 0
        return EnvStep(image=image, reward=0.0, is_last=False, is_terminal=False)

    def step(self, action: FloatArray) -> EnvStep:
        """Takes one action `action_repeat` times, or fewer if the episode ends.

        Args:
            action: [A]; one-hot for Discrete actions, in [-1, 1] for a Box.

        Raises:
            ValueError: the action has another form, or no episode is running.
            EnvironmentCrashed: the environment raised, or broke its declaration.
        """
        native_action = _native_action(action, self._action_space)
        episode_steps = next_episode_step(self._episode_steps)
        self._episode_steps = None
        observation: Any = None
        reward, is_terminal, is_last = 0.0, False, False
        for _ in range(self._config.action_repeat):
            with _crash_report(self._config.task, "step"):
                observation, frame_reward, terminated, truncated, _ = self._env.step(native_action)
                reward += _finite_reward(self._config.task, frame_reward)
                is_terminal = bool(terminated)
                is_last = is_terminal or bool(truncated)
            if is_last:
                break
        image = self._convert(observation)
        is_last = is_last or episode_steps == self._config.time_limit_steps
        self._episode_steps = None if is_last else episode_steps
        return EnvStep(image=image, reward=reward, is_last=is_last, is_terminal=is_terminal)

    def screen(self) -> UInt8Array:
        """Returns the newest observed image in its own size and colours.

        Raises:
            ValueError: nothing was observed yet.
        """
        if self._observed is None:
            raise ValueError("screen needs an observed image; call reset first")
        return self._observed.reshape(*self._observed.shape[:2], -1).copy()

    def state(self) -> None:
        """Returns None: Gymnasium has no way to ask an environment for its state."""
        return

    def restore(self, state: Mapping[str, Any]) -> None:
        """Refuses.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"Wanted to restore {self._config.task}, but Gymnasium environments have no state "
            f"to restore (got {sorted(state)}); begin a new episode"
        )

    def close(self) -> None:
        """Closes the environment.

        Raises:
            EnvironmentCrashed: it raised.
        """
        self._episode_steps = None
        with _crash_report(self._config.task, "close"):
            self._env.close()

    def _convert(self, observation: Any) -> UInt8Array:
        """Returns the observed image as [64, 64, channels]."""
        with _crash_report(self._config.task, "reading its observation"):
            image = np.asarray(observation["image"] if self._has_image_key else observation)
        space = self._image_space
        if image.shape != space.shape or image.dtype != np.uint8:
            raise EnvironmentCrashed(
                f"{self._config.task} declares a uint8 image of shape {space.shape}, but returned "
                f"{image.dtype} of shape {image.shape}; correct its observation or its space"
            )
        self._observed = cast(UInt8Array, image)
        if self._config.is_grayscale and image.shape[2:] == (3,):
            image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        return resize_image(cast(UInt8Array, image))


@contextmanager
def _crash_report(task: str, doing: str) -> Generator[None, None, None]:
    """Turns any exception of the user's code into EnvironmentCrashed, with the task's name."""
    try:
        yield
    except DreamerError:
        raise
    except (Exception, SystemExit) as error:
        message = f"{task} raised {type(error).__name__} during {doing}: {error}"
        raise EnvironmentCrashed(message) from error


def _load(task: str) -> gymnasium.Env[Any, Any]:
    """Makes the environment that a task names."""
    # A console script starts without the directory that `python -m` would search first.
    directory = str(Path.cwd())
    if "" not in sys.path and directory not in sys.path:
        sys.path.insert(0, directory)
    make = _find_callable(task) if ":" in task else partial(_make_registered, task)
    with _crash_report(task, "making the environment"):
        env = make()
    if not isinstance(env, gymnasium.Env):
        raise UnsupportedEnvironment(
            f"task={task!r} must make a gymnasium.Env, but made {type(env).__name__}; derive it "
            "from gymnasium.Env or return a wrapper that is"
        )
    return cast("gymnasium.Env[Any, Any]", env)


def _make_registered(task: str) -> Any:
    """Makes the environment of a registered id."""
    try:
        return gymnasium.make(task, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise UnknownTask(
            f"task={task!r} is no id that gymnasium.make accepts: {error} An id exists only once "
            "its package is imported; to import it, give `package.module:make_env` instead"
        ) from error


def _find_callable(task: str) -> Any:
    """Returns what `package.module:name` names."""
    module_name, _, name = task.partition(":")
    if not name or not all(part.isidentifier() for part in module_name.split(".")):
        raise UnknownTask(f"task={task!r} must have the form `package.module:make_env`")
    package = module_name.partition(".")[0]
    if package in OWN_PACKAGES:
        raise UnknownTask(
            f"task={task!r} needs a package {package!r} of yours, but dreamer's own has that name, "
            "and a process can have only one; rename yours, or make the environment in a module "
            "outside it"
        )
    with _crash_report(task, f"importing {module_name}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UnknownTask(
                f"task={task!r} needs the module {module_name}, but: {error}. Install it, or "
                f"start from the directory that holds it (now {Path.cwd()})"
            ) from error
    if not callable(getattr(module, name, None)):
        names = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        )
        raise UnknownTask(
            f"task={task!r} needs a callable {name!r} in {module_name}, which has none; "
            f"callables defined there: {', '.join(names) or 'none'}"
        )
    return getattr(module, name)


def _image_space(config: EnvConfig, space: Any) -> spaces.Box:
    """Returns the part of an observation space that holds the image."""
    image: Any = cast(Any, space).spaces.get("image") if isinstance(space, spaces.Dict) else space
    is_image = (
        isinstance(image, spaces.Box)
        and cast(Any, image).dtype == np.uint8
        and len(image.shape) in (2, 3)
        and image.shape[2:] in ((), (1,), (3,))
        and min(image.shape[:2]) >= MIN_SIDE
    )
    if not is_image:
        raise UnsupportedEnvironment(
            f"{config.task} must observe an image: a Box of uint8 with shape [H, W], [H, W, 1] or "
            f"[H, W, 3] and sides of {MIN_SIDE} pixels or more, or a Dict with one under 'image'. "
            f"It observes {space}. To observe what it renders, wrap it in "
            "gymnasium.wrappers.AddRenderObservation(gymnasium.make(id, render_mode='rgb_array')) "
            "and name the function that does so as `package.module:make_env`"
        )
    box = cast(spaces.Box, image)
    if not config.is_grayscale and box.shape[2:] != (3,):
        raise UnsupportedEnvironment(
            f"is_grayscale=False needs three channels, but {config.task} observes {box.shape}; "
            "set is_grayscale=True"
        )
    return box


def _action_space(task: str, space: Any) -> spaces.Discrete | spaces.Box:
    """Returns an action space if it can be mapped to one-hot vectors or to [-1, 1]."""
    is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0
    box = cast(Any, space)
    is_bounded = (
        is_vector
        and np.issubdtype(box.dtype, np.floating)
        and np.isfinite([box.low, box.high]).all()
    )
    if isinstance(space, spaces.Discrete) or is_bounded:
        return cast("spaces.Discrete | spaces.Box", space)
    raise UnsupportedEnvironment(
        f"{task} must take Discrete actions or a one-dimensional Box of bounded floats; it takes "
        f"{space}. Wrap it with gymnasium.wrappers.TransformAction or one of your own"
    )


def _action_size(space: spaces.Discrete | spaces.Box) -> int:
    """Returns A."""
    return int(space.n) if isinstance(space, spaces.Discrete) else space.shape[0]


def _native_action(action: FloatArray, space: spaces.Discrete | spaces.Box) -> Any:
    """Returns an action [A] as the environment takes it."""
    if isinstance(space, spaces.Discrete):
        return int(space.start) + one_hot_index(action, int(space.n))
    share = (bounded_action(action, space.shape[0]).astype(np.float64) + 1) / 2
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return np.clip(low + share * (high - low), low, high).astype(space.dtype)


def _finite_reward(task: str, reward: Any) -> float:
    """Returns one frame's reward as a float."""
    array = np.asarray(reward)
    if array.shape != () or array.dtype.kind not in "biuf" or not np.isfinite(array):
        raise EnvironmentCrashed(
            f"{task} must return one finite number as the reward, but returned {reward!r}; "
            "correct its step"
        )
    return float(array)
