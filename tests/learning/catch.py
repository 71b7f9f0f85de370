"""Catch, the smallest game with images: for learning tests that finish in minutes.

Task name: `tests.learning.catch:make_env`, from the root of the repository.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

COLUMNS, ROWS = 9, 10
"""Size of the grid in cells."""
CELL_WIDTH, CELL_HEIGHT = 7, 6
"""Size of a cell in pixels; large, so that a small world model sees the ball."""
PADDLE_REACH = 1
"""Cells of the paddle on each side of its middle: it is three wide."""
BALLS = 5
"""Balls per episode, so the best return is 5."""
EPISODE_STEPS = BALLS * ROWS - 1
"""A ball is seen in each row once; the first row of the first ball is the reset's image."""

Image = npt.NDArray[np.uint8]


class Catch(gymnasium.Env[Image, int]):
    """A paddle at the bottom catches balls that fall straight down, one row per step.

    Observation: [64, 64, 1], black with a white ball (255) and a gray paddle (128); where both
    meet, the ball is drawn over the paddle. Actions: 0 left, 1 stay, 2 right, by one cell, within
    the walls. Reward: when the ball arrives in the bottom row, +1 if the paddle is under it and -1
    if not; otherwise 0. The next ball enters the top row one step later, in a column drawn
    uniformly, while the paddle stays where it is. The episode is terminated with its last ball.

    Since the paddle always covers 3 of 9 columns and the ball's column does not depend on it, any
    policy that ignores the image has the expected return 5 * (1/3 - 2/3) = -5/3.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space: spaces.Space[Image] = spaces.Box(0, 255, (64, 64, 1), np.uint8)
    action_space: spaces.Space[Any] = spaces.Discrete(3)

    def __init__(self) -> None:
        self.paddle = self.ball_column = self.ball_row = self.balls_landed = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Puts the paddle in the middle and the first ball in the top row."""
        super().reset(seed=seed, options=options)
        self.paddle, self.balls_landed = COLUMNS // 2, 0
        self._drop_ball()
        return self._draw(), {}

    def step(self, action: int) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Moves the paddle, then the ball."""
        leftmost, rightmost = PADDLE_REACH, COLUMNS - 1 - PADDLE_REACH
        self.paddle = min(max(self.paddle + action - 1, leftmost), rightmost)
        reward = 0.0
        if self.ball_row == ROWS - 1:
            self._drop_ball()
        else:
            self.ball_row += 1
        if self.ball_row == ROWS - 1:
            self.balls_landed += 1
            is_caught = abs(self.ball_column - self.paddle) <= PADDLE_REACH
            reward = 1.0 if is_caught else -1.0
        info = {"landed": self.balls_landed}
        return self._draw(), reward, self.balls_landed == BALLS, False, info

    def _drop_ball(self) -> None:
        self.ball_row, self.ball_column = 0, int(self.np_random.integers(COLUMNS))

    def _draw(self) -> Image:
        cells = np.zeros((ROWS, COLUMNS), np.uint8)
        cells[-1, self.paddle - PADDLE_REACH : self.paddle + PADDLE_REACH + 1] = 128
        cells[self.ball_row, self.ball_column] = 255
        blocks = cells.repeat(CELL_HEIGHT, 0).repeat(CELL_WIDTH, 1)  # [60, 63]
        return np.pad(blocks, ((2, 2), (0, 1)))[..., None]


def make_env() -> Catch:
    """Returns a new game."""
    return Catch()


def best_action(env: Catch) -> int:
    """Returns the action that moves the middle of the paddle towards the ball's column."""
    return 1 + int(np.sign(env.ball_column - env.paddle))
