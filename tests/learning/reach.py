"""Reach, the smallest task of continuous control from pixels: for learning tests of minutes.

Task names: `tests.learning.reach:make_env`, and `:make_plane` for a hand that moves in two
dimensions, from the root of the repository.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

SIDE = 64
"""Height and width of the image, in pixels."""
BLOCK = 10
"""Width of both, in pixels; large, so that a small world model sees them."""
SPEED = 0.15
"""Way of the hand at full action, as a share of the field."""
EPISODE_STEPS = 40

Image = npt.NDArray[np.uint8]
Action = npt.NDArray[np.float32]


class Reach(gymnasium.Env[Image, Action]):
    """A hand is to be moved under a goal, and held there.

    Observation: [64, 64, 1], black with a gray goal (128) in the upper half and a white hand (255)
    in the lower. Action: the way of the hand, [-1, 1], within the walls. Reward: after each step
    1 - 2 d, where d is the distance as a share of the largest. Both begin anywhere; an episode is
    cut off after 40 steps. Random play returns 11.7 on average, the best policy 39.1.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space: spaces.Space[Image] = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)
    dimensions = 1

    def __init__(self) -> None:
        self.action_space: spaces.Space[Action] = spaces.Box(-1, 1, (self.dimensions,), np.float32)
        self.hand = self.goal = np.zeros(self.dimensions)
        self.steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Draws where goal and hand are, uniformly over the field."""
        super().reset(seed=seed, options=options)
        self.goal, self.hand = self.np_random.random((2, self.dimensions))
        self.steps = 0
        return self._draw(), {}

    def step(self, action: Action) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Moves the hand."""
        self.hand = np.clip(self.hand + SPEED * np.asarray(action, np.float64), 0, 1)
        self.steps += 1
        distance = float(np.linalg.norm(self.hand - self.goal)) / self.dimensions**0.5
        return self._draw(), 1 - 2 * distance, False, self.steps == EPISODE_STEPS, {}

    def _draw(self) -> Image:
        image = np.zeros((SIDE, SIDE, 1), np.uint8)
        for rows, place, gray in ((slice(0, 32), self.goal, 128), (slice(32, 64), self.hand, 255)):
            column = round(place.item() * (SIDE - BLOCK))
            image[rows, column : column + BLOCK] = gray
        return image


class Plane(Reach):
    """The same in a plane, with a number for each direction; the hand is drawn over the goal."""

    dimensions = 2

    def _draw(self) -> Image:
        image = np.zeros((SIDE, SIDE, 1), np.uint8)
        for place, gray in ((self.goal, 128), (self.hand, 255)):
            row, column = np.round(place * (SIDE - BLOCK)).astype(int)
            image[row : row + BLOCK, column : column + BLOCK] = gray
        return image


def make_env() -> Reach:
    """Returns a new task."""
    return Reach()


def make_plane() -> Plane:
    """Returns a new task."""
    return Plane()


def best_action(env: Reach) -> Action:
    """Straight to the goal."""
    return np.clip((env.goal - env.hand) / SPEED, -1, 1).astype(np.float32)
