"""DeepMind Control from pixels: the suite `control` (DreamerV2, Appendix A), through dm_control.

An episode is 1,000 control steps, at the end of which it is cut off without being terminal.
"""

from __future__ import annotations

import difflib
import importlib
import math
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.actions import actions_of
from dreamer_core.envs.base import (
    IMAGE_SIZE,
    EnvStep,
    UnknownTask,
    next_episode_step,
)
from dreamer_core.envs.calling import calling, closing
from dreamer_core.envs.rendering import choose_renderer
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array
from dreamer_core.words import plural

_STEPS_OF_SUITE = 1_000
_SCREEN_SIZE = 240  # height and width of what a person looks at, in pixels
_CAMERAS = {f"quadruped_{task}": 2 for task in ("walk", "run", "escape", "fetch")}
"""Where the released code takes another camera than the first."""
_ALIASES = {"cup_catch": "ball_in_cup_catch"}
"""Names of the released code that are no DOMAIN_TASK."""


class ControlEnvironment:
    """One task of DeepMind Control, seen by its camera.

    Its state is exact: the random numbers that its episode began with and the actions since, so
    that it is restored by taking them again without rendering.
    """

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """Loads the task.

        Args:
            config: task, action repeat, time limit, number of channels, shadows.
            seed: 0 or more; of the initial states of all episodes.

        Raises:
            UnknownTask: there is no such task, or dm_control is not installed.
            UnsupportedEnvironment: nothing here can render, or its actions are unbounded.
        """
        self._config = config
        self._env = _load(config.task, seed)
        self._camera = _CAMERAS.get(config.task, 0)
        self._flags = {} if config.has_shadows else _without_shadows()
        with calling(config.task, "telling its actions"):
            bounds: Any = self._env.action_spec()
            low, high = (np.broadcast_to(x, bounds.shape) for x in (bounds.minimum, bounds.maximum))
            box = spaces.Box(low, high, dtype=np.float64)
            self._actions = actions_of(config.task, box)
        self._render_s = 0.0
        self._episode_steps: int | None = None
        self._begun_with: Any = None
        self._taken: list[FloatArray] = []
        self._spec = EnvSpec(
            image_shape=(IMAGE_SIZE, IMAGE_SIZE, 1 if config.is_grayscale else 3),
            action_size=self._actions.size,
            is_discrete=False,
            action_names=None,
            frames_per_policy_step=config.action_repeat,
        )

    @property
    def spec(self) -> EnvSpec:
        """Sizes; constant over the environment's life."""
        return self._spec

    @property
    def own_limit_steps(self) -> int:
        """1,000 steps of the simulator, as in every task of the suite."""
        return math.ceil(_STEPS_OF_SUITE / self._config.action_repeat)

    @property
    def spaces(self) -> tuple[str, str]:
        """Observations and actions in the environment's own words."""
        size = f"{IMAGE_SIZE} x {IMAGE_SIZE} pixels of camera {self._camera}"
        return size, f"{plural(self._actions.size, 'joint')}, each in [-1, 1]"

    def reset(self) -> EnvStep:
        """Starts an episode from the next initial state."""
        self._begin(self._env.task.random.get_state())
        return EnvStep(image=self._image(), reward=0.0, is_last=False, is_terminal=False)

    def step(self, action: FloatArray) -> EnvStep:
        """Takes one action for `action_repeat` control steps, or fewer if the episode ends.

        Args:
            action: [A], in [-1, 1].

        Raises:
            ValueError: the action has another form, or no episode is running.
            EnvironmentCrashed: the simulation broke down.
        """
        native = self._actions.native(action)
        episode_steps = next_episode_step(self._episode_steps)
        self._episode_steps = None
        reward, is_last, is_terminal = self._advance(native)
        self._taken.append(action.copy())
        is_last = is_last or episode_steps == self._config.time_limit_steps
        self._episode_steps = None if is_last else episode_steps
        return EnvStep(image=self._image(), reward=reward, is_last=is_last, is_terminal=is_terminal)

    def screen(self) -> UInt8Array:
        """Returns what the camera sees now, larger than what the agent does, in colour."""
        return self._render(_SCREEN_SIZE)

    @property
    def frames_per_second(self) -> float:
        """Control steps a second of simulated time."""
        return 1 / float(self._env.control_timestep())

    @property
    def render_s(self) -> float:
        """Seconds spent on rendering so far."""
        return self._render_s

    def state(self) -> dict[str, Any]:
        """Returns what the episode began with, and the actions taken since."""
        name, keys, position, has_gauss, gauss = self._begun_with or ("", np.zeros(0), 0, 0, 0.0)
        shape = (len(self._taken), self._actions.size)
        return {
            "task": self._config.task,
            "random": name,
            "keys": np.array(keys, np.int64),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
            "actions": np.array(self._taken, np.float32).reshape(shape),
            "is_over": self._episode_steps is None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken: the same initial state, and the same actions again.

        Raises:
            ValueError: the state is of another task, or from before the first reset.
        """
        if state.get("task") != self._config.task or not state["random"]:
            raise ValueError(
                f"Wanted the state of an episode of {self._config.task}, but got one of "
                f"{state.get('task')!r}; begin a new episode"
            )
        names = ("random", "keys", "position", "has_gauss", "gauss")
        name, keys, *rest = (state[name] for name in names)
        self._begin((name, np.asarray(keys).astype(np.uint32), *rest))
        for action in np.asarray(state["actions"], np.float32):
            self._advance(self._actions.native(action))
            self._taken.append(action.copy())
        self._episode_steps = None if state["is_over"] else len(self._taken)

    def close(self) -> None:
        """Frees the simulator and its renderer.

        Raises:
            EnvironmentCrashed: that failed.
        """
        self._episode_steps = None
        with closing(self._config.task):
            self._env.close()

    def _begin(self, random: Any) -> None:
        """Starts an episode with these random numbers."""
        self._env.task.random.set_state(random)
        self._begun_with, self._taken = random, []
        with calling(self._config.task, "reset"):
            self._env.reset()
        self._episode_steps = 0

    def _advance(self, native: Any) -> tuple[float, bool, bool]:
        """Takes a native action; returns the sum of rewards, is_last and is_terminal."""
        reward = 0.0
        for _ in range(self._config.action_repeat):
            with calling(self._config.task, "step"):
                frame: Any = self._env.step(native)
            reward += float(frame.reward or 0.0)
            if frame.last():
                return reward, True, frame.discount == 0
        return reward, False, False

    def _image(self) -> UInt8Array:
        image = self._render(IMAGE_SIZE)
        if self._config.is_grayscale:
            return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.uint8)
        return image

    def _render(self, size: int) -> UInt8Array:
        started_s = time.perf_counter()
        with calling(self._config.task, "rendering"):
            image: Any = self._env.physics.render(
                size, size, camera_id=self._camera, render_flag_overrides=self._flags
            )
        self._render_s += time.perf_counter() - started_s
        return np.array(image, np.uint8)


def _load(task: str, seed: int) -> Any:
    """Makes the environment of dm_control that a task names."""
    suite = _suite()
    pairs = {"_".join(pair): pair for pair in suite.ALL_TASKS}
    name = _ALIASES.get(task, task)
    if name not in pairs:
        close = difflib.get_close_matches(name, pairs, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(pairs)}"
        raise UnknownTask(f"task={task!r} is no DOMAIN_TASK of DeepMind Control: {hint}")
    with calling(task, "making the environment"):
        return suite.load(*pairs[name], task_kwargs={"random": seed % 2**32})


def _without_shadows() -> dict[Any, bool]:
    """Flags of the renderer that leave out shadows and reflections."""
    flag: Any = importlib.import_module("mujoco").mjtRndFlag
    return dict.fromkeys((flag.mjRND_SHADOW, flag.mjRND_REFLECTION), False)


def _suite() -> Any:
    """Imports dm_control with a renderer that works."""
    if find_spec("mujoco") is not None:
        choose_renderer()
    try:
        return importlib.import_module("dm_control.suite")
    except ImportError as error:
        raise UnknownTask(
            f"suite=control needs DeepMind Control, but: {error}. Install the extra `control` "
            "(pip install '.[control]'), with Python 3.11 or 3.12: for newer ones a part of it, "
            "labmaze, has no wheels"
        ) from error
