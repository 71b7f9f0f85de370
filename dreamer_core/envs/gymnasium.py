"""Gymnasium environments that observe an image or numbers, brought to the common form."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from dreamer_core.bars import picture_of
from dreamer_core.config import EnvConfig
from dreamer_core.envs.actions import actions_of
from dreamer_core.envs.answers import (
    frame_of,
    observation_and_info,
    picture_from,
    require_float32,
)
from dreamer_core.envs.base import (
    FRAMES_PER_SECOND,
    IMAGE_SIZE,
    EnvironmentCrashed,
    EnvStep,
    Seen,
    close_or_warn,
    next_episode_step,
    resize_image,
)
from dreamer_core.envs.calling import calling, closing
from dreamer_core.envs.frames import ATARI_FRAMES_PER_SECOND, frames_per_env_step, is_atari
from dreamer_core.envs.info import EpisodeInfo
from dreamer_core.envs.loading import load
from dreamer_core.envs.observations import image_reader
from dreamer_core.envs.vectors import vector_reader
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array

logger = logging.getLogger(__name__)

_MOST_FRAMES_PER_SECOND = 1000


class GymnasiumEnvironment:
    """One environment that observes an image, a vector or both; see observations.py, vectors.py.

    Colour becomes grayscale (luma) if the config asks for it; the opposite is refused, since it
    would only triple the work. Actions: see actions.py. `terminated` means `is_terminal`;
    `truncated` and the time limit do not.
    """

    def __init__(
        self, config: EnvConfig, seed: int, env: gymnasium.Env[Any, Any] | None = None
    ) -> None:
        """Makes the environment and checks its spaces.

        Args:
            config: task, action repeat, time limit and number of channels.
            seed: 0 or more; handed to the first reset.
            env: one that is made already; None for the one that the task names.

        Raises:
            UnknownTask: the task names nothing that could be loaded.
            UnsupportedEnvironment: its observations or actions are of a kind not handled.
            EnvironmentCrashed: its own code raised.
        """
        self._config = config
        self._next_seed: int | None = seed
        self._info = EpisodeInfo(config.task, config.log_info)
        self._episode_steps: int | None = None
        self._env = load(config.task) if env is None else env
        try:
            with calling(config.task, "telling its spaces"):
                self._vector = vector_reader(config, self._env.observation_space)
                has_vector = self._vector is not None
                self._image = image_reader(config, self._env, has_vector=has_vector)
                self._actions = actions_of(config.task, self._env.action_space)
                frames_per_step = frames_per_env_step(self._env)
                self._renders = self._env.render_mode == "rgb_array"
        except BaseException:
            if env is None:
                close_or_warn(self)
            raise
        classes = self._actions.classes
        colours = 1 if config.is_grayscale else 3
        self._channels = 0 if self._image is None else colours
        self._seen: Seen | None = None
        self._spec = EnvSpec(
            image_shape=(IMAGE_SIZE, IMAGE_SIZE, self._channels),
            action_size=self._actions.size,
            is_discrete=classes is not None,
            action_names=None,
            action_classes=classes if classes is not None and len(classes) > 1 else None,
            vector_size=0 if self._vector is None else self._vector.size,
            frames_per_policy_step=config.action_repeat * frames_per_step,
        )

    @property
    def spec(self) -> EnvSpec:
        """Sizes; constant over the environment's life."""
        return self._spec

    @property
    def own_limit_steps(self) -> int | None:
        """The limit with which its id is registered."""
        with calling(self._config.task, "telling its limit"):
            limit: Any = getattr(self._env.spec, "max_episode_steps", None)
        is_limit = isinstance(limit, int | float) and 0 < limit < math.inf
        return math.ceil(limit / self._config.action_repeat) if is_limit else None

    @property
    def spaces(self) -> tuple[str, str]:
        """Observations and actions in the environment's own words."""
        with calling(self._config.task, "telling its spaces"):
            return str(self._env.observation_space), str(self._env.action_space)

    def reset(self) -> EnvStep:
        """Starts an episode; the first one hands over the seed.

        Raises:
            EnvironmentCrashed: the environment raised, or broke its declaration.
        """
        self._episode_steps = None
        with calling(self._config.task, "reset"):
            answer: Any = self._env.reset(seed=self._next_seed)
        observation, told = observation_and_info(self._config.task, answer)
        info = self._info.begin(told)
        self._next_seed = None
        seen = self.read(observation)
        self._episode_steps = 0
        return _env_step(seen, reward=0.0, is_last=False, is_terminal=False, info=info)

    def step(self, action: FloatArray) -> EnvStep:
        """Takes one action `action_repeat` times, or fewer if the episode ends.

        Args:
            action: [A]; one-hot parts for choices, in [-1, 1] for a Box.

        Raises:
            ValueError: the action has another form, or no episode is running.
            EnvironmentCrashed: the environment raised, or broke its declaration.
        """
        native = self.native(action)
        episode_steps = next_episode_step(self._episode_steps)
        self._episode_steps = None
        task = self._config.task
        observation: Any = None
        reward, is_terminal, is_last, info = 0.0, False, False, dict[str, float]()
        for _ in range(self._config.action_repeat):
            with calling(task, "step"):
                answer: Any = self._env.step(native)
            frame = frame_of(task, answer)
            observation, info = frame.observation, self._info.take(frame.info)
            reward = require_float32(task, reward + frame.reward)
            is_terminal = frame.is_terminal
            is_last = is_terminal or frame.is_truncated
            if is_last:
                break
        seen = self.read(observation)
        is_last = is_last or episode_steps == self._config.time_limit_steps
        self._episode_steps = None if is_last else episode_steps
        if is_last:
            self._info.warn_of_missing()
        return _env_step(seen, reward=reward, is_last=is_last, is_terminal=is_terminal, info=info)

    def native(self, action: FloatArray) -> Any:
        """Returns an action [A] as the environment itself takes it.

        Raises:
            ValueError: the action has another form.
        """
        return self._actions.native(action)

    def screen(self) -> UInt8Array:
        """Returns the newest observed image in its own size and colours.

        Where none is observed: what the environment renders, or else the vector as bars. That it
        fails to render is a warning: no agent sees that picture.

        Raises:
            ValueError: nothing was observed yet.
        """
        if self._seen is None:
            raise ValueError("screen needs an observed image; call reset first")
        if self._image is not None and self._image.observed is not None:
            return self._image.observed.copy()
        if self._renders and (rendered := self._rendered()) is not None:
            return rendered
        return picture_of(self._seen.image, self._seen.vector)

    def _rendered(self) -> UInt8Array | None:
        """What the environment renders; None, and never asked again, where that is no picture."""
        try:
            with calling(self._config.task, "render"):
                answer: Any = self._env.render()
            return picture_from(self._config.task, answer)
        except EnvironmentCrashed as error:
            logger.warning("%s. Its numbers are shown as bars instead", error)
            self._renders = False
            return None

    @property
    def frames_per_second(self) -> float:
        """`render_fps` of its metadata, if that is a sane number; the console's for Atari."""
        if is_atari(self._env):  # whose metadata tells no pace of frames
            return ATARI_FRAMES_PER_SECOND
        metadata: Any = getattr(self._env, "metadata", None)
        declared = metadata.get("render_fps") if isinstance(metadata, Mapping) else None
        if isinstance(declared, int | float) and 0 < declared <= _MOST_FRAMES_PER_SECOND:
            return float(declared)
        return FRAMES_PER_SECOND

    @property
    def render_s(self) -> float:
        """0: Gymnasium does not tell it apart from a step."""
        return 0.0

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
        with closing(self._config.task):
            self._env.close()

    def read(self, observation: Any) -> Seen:
        """Returns what the agent sees of one of its observations.

        Raises:
            EnvironmentCrashed: the observation is unlike the declared space.
        """
        image = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 0), np.uint8)
        with calling(self._config.task, "reading its observation"):
            if self._image is not None:
                image = resize_image(self._image.read(observation))
            vector = None if self._vector is None else self._vector.read(observation)
        self._seen = Seen(image, vector)
        return self._seen


def _env_step(seen: Seen, **others: Any) -> EnvStep:
    return EnvStep(image=seen.image, vector=seen.vector, **others)
