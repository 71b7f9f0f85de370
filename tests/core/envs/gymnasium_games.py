"""A Gymnasium environment whose images and rewards count its frames, and actions to play it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_core.envs.base import Environment
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
        self.action_space = spaces.Discrete(3) if action_space is None else action_space
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
"""Makes an environment of ours from an instance; fixture `wrap` is one."""


def one_hot(index: int, size: int = 3) -> FloatArray:
    return np.eye(size, dtype=np.float32)[index]


def vector(values: Sequence[float]) -> FloatArray:
    return np.array(values, np.float32)
