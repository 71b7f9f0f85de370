"""Environments whose rows say which step they are, so that any misalignment is visible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_core.envs.base import EnvStep
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array

CALM_STEPS = 90


class CountingEnvironment:
    """Image t of an episode is filled with t and its reward is 100 * episode + t.

    Args:
        length: policy steps of each episode.
        is_terminal: whether episodes end by their own end rather than by a limit.
        is_discrete: three discrete actions, else two continuous ones.
        classes: of several choices at once, the size of each; in place of the three actions.
        vector_size: numbers seen besides the image, all of them t.
        has_image: whether there is an image to see.
    """

    def __init__(
        self,
        length: int,
        *,
        is_terminal: bool = True,
        is_discrete: bool = True,
        classes: tuple[int, ...] | None = None,
        vector_size: int = 0,
        has_image: bool = True,
    ) -> None:
        self._length, self._is_terminal = length, is_terminal
        self._spec = EnvSpec(
            image_shape=(64, 64, int(has_image)),
            action_size=sum(classes or (3,)) if is_discrete else 2,
            is_discrete=is_discrete,
            action_names=None,
            action_classes=classes,
            vector_size=vector_size,
        )
        self.actions: list[FloatArray] = []
        """Every action it was given, in order."""
        self._episode, self._step = -1, 0

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self) -> EnvStep:
        self._episode, self._step = self._episode + 1, 0
        return self._arrive(0.0)

    @property
    def own_limit_steps(self) -> int | None:
        return None

    @property
    def spaces(self) -> tuple[str, str]:
        return "a count", "any"

    def step(self, action: FloatArray) -> EnvStep:
        assert self._step < self._length, "step after the end of an episode"
        self.actions.append(action.copy())
        self._step += 1
        return self._arrive(100.0 * self._episode + self._step)

    def screen(self) -> UInt8Array:
        return np.full((4, 2, 3), self._step, np.uint8)

    @property
    def frames_per_second(self) -> float:
        return 10.0

    @property
    def render_s(self) -> float:
        return 0.25

    def state(self) -> dict[str, Any]:
        return {"episode": self._episode, "step": self._step}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._episode, self._step = state["episode"], state["step"]

    def close(self) -> None:
        self._length = 0

    def _arrive(self, reward: float) -> EnvStep:
        is_last = self._step == self._length
        size = self._spec.vector_size
        return EnvStep(
            image=np.full(self._spec.image_shape, self._step, np.uint8),
            vector=np.full(size, self._step, np.float32) if size else None,
            reward=reward,
            is_last=is_last,
            is_terminal=is_last and self._is_terminal,
        )


class ExplodingEnv(gymnasium.Env[Any, Any]):
    """After CALM_STEPS steps its rewards stay finite, but their squares do not."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 255, (64, 64, 1), np.uint8)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def __init__(self) -> None:
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed, options=options)
        return np.zeros((64, 64, 1), np.uint8), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        reward = 1e30 if self._steps > CALM_STEPS else 0.0
        return np.zeros((64, 64, 1), np.uint8), reward, self._steps % 10 == 0, False, {}


def make_exploding_env() -> ExplodingEnv:
    """Task name: `tests.core.counting_env:make_exploding_env`."""
    return ExplodingEnv()
