"""Small games on a grid of cells, each of which asks one thing of an agent; images are their cells.

Task names: `tests.learning.grids:make_recall`, `make_goals`, `make_sieve`, `make_wind` and
`make_dodge`, from the root of the repository. Actions are choices; what each game returns at best
and to random play is in `tests/learning/tasks.py` and measured by a test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Image = npt.NDArray[np.uint8]
Cell = tuple[int, int]
"""Row and column."""

WHITE, GRAY, DARK = 255, 128, 64
MOVES: tuple[Cell, ...] = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Stay, up, down, left, right."""


class Grid(gymnasium.Env[Image, int], ABC):
    """What the games share: cells of `scale` pixels on a black ground, a step limit, choices.

    Args:
        shape: rows and columns of cells.
        scale: height and width of a cell in pixels.
        actions: number of choices.
        limit_steps: after which an episode is truncated.
        channels: of the image, 1 or 3.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, shape: Cell, scale: Cell, *, actions: int, limit_steps: int, channels: int = 1
    ) -> None:
        self.shape, self.scale, self.channels = shape, scale, channels
        pixels = (shape[0] * scale[0], shape[1] * scale[1], channels)
        self.observation_space: spaces.Space[Image] = spaces.Box(0, 255, pixels, np.uint8)
        self.action_space: spaces.Space[Any] = spaces.Discrete(actions)
        self.limit_steps, self.steps = limit_steps, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Begins an episode; every draw comes from the seeded generator."""
        super().reset(seed=seed, options=options)
        self.steps = 0
        self.begin()
        return self.image(), {}

    def step(self, action: int) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Moves everything once."""
        self.steps += 1
        reward, is_terminal = self.move(int(action))
        return self.image(), reward, is_terminal, self.steps >= self.limit_steps, {}

    @abstractmethod
    def begin(self) -> None:
        """Puts everything where an episode begins."""

    @abstractmethod
    def move(self, action: int) -> tuple[float, bool]:
        """Takes one step; returns the reward and whether the episode is over."""

    @abstractmethod
    def cells(self) -> Image:
        """What is in each cell, [rows, columns, channels]."""

    @abstractmethod
    def best_action(self) -> int:
        """A choice that nothing beats, or next to it."""

    def image(self) -> Image:
        """The cells as pixels."""
        return self.cells().repeat(self.scale[0], 0).repeat(self.scale[1], 1)

    def black(self) -> Image:
        """Empty cells."""
        return np.zeros((*self.shape, self.channels), np.uint8)

    def free_cells(self, count: int) -> list[Cell]:
        """Draws so many different cells."""
        places = self.np_random.choice(self.shape[0] * self.shape[1], count, replace=False)
        return [(int(p) // self.shape[1], int(p) % self.shape[1]) for p in places]

    def moved(self, place: Cell, action: int) -> Cell:
        """The cell that one of MOVES leads to, within the walls."""
        row, column = (a + b for a, b in zip(place, MOVES[action], strict=True))
        return min(max(row, 0), self.shape[0] - 1), min(max(column, 0), self.shape[1] - 1)


class Recall(Grid):
    """Memory: one of three doors is lit at first; 10 to 30 steps later the agent is to open it.

    The cue is seen once. Then all is dark for a while that is drawn anew each time, until three
    gray doors ask; the next action is the answer: +1 or -1, and the end.
    """

    def __init__(self) -> None:
        super().__init__((4, 3), (16, 21), actions=3, limit_steps=40)
        self.door = self.asked_at = 0

    def begin(self) -> None:
        self.door, self.asked_at = (
            int(self.np_random.integers(3)),
            int(self.np_random.integers(10, 31)),
        )

    def move(self, action: int) -> tuple[float, bool]:
        if self.steps <= self.asked_at:
            return 0.0, False
        return (1.0 if action == self.door else -1.0), True

    def cells(self) -> Image:
        cells = self.black()
        if self.steps == 0:
            cells[:2, self.door] = WHITE
        elif self.steps == self.asked_at:
            cells[2:] = GRAY
        return cells

    def best_action(self) -> int:
        return self.door


class Goals(Grid):
    """Several goals: each of three gray cells is worth 1 to the white one when it comes there."""

    def __init__(self) -> None:
        super().__init__((6, 6), (10, 10), actions=5, limit_steps=25)
        self.agent, self.goals = (0, 0), list[Cell]()

    def begin(self) -> None:
        self.agent, *self.goals = self.free_cells(4)

    def move(self, action: int) -> tuple[float, bool]:
        self.agent = self.moved(self.agent, action)
        if self.agent not in self.goals:
            return 0.0, False
        self.goals.remove(self.agent)
        return 1.0, not self.goals

    def cells(self) -> Image:
        cells = self.black()
        for goal in self.goals:
            cells[goal] = GRAY
        cells[self.agent] = WHITE
        return cells

    def best_action(self) -> int:
        goal = min(self.goals, key=lambda goal: distance(self.agent, goal))
        return min(range(5), key=lambda action: distance(self.moved(self.agent, action), goal))


class Sieve(Grid):
    """Moving distractors: catch the white ball, while four dark ones that mean nothing wander.

    As in Catch the paddle is three cells wide and a caught ball counts 1, a missed one -1.
    """

    def __init__(self) -> None:
        super().__init__((9, 9), (7, 7), actions=3, limit_steps=32)
        self.paddle, self.ball, self.others = 4, (0, 0), list[Cell]()

    def begin(self) -> None:
        self.paddle, self.ball = 4, (0, int(self.np_random.integers(9)))
        self.others = self.free_cells(4)

    def move(self, action: int) -> tuple[float, bool]:
        self.paddle = min(max(self.paddle + action - 1, 1), 7)
        self.others = [self.moved(x, int(self.np_random.integers(5))) for x in self.others]
        if self.ball[0] == 8:
            self.ball = (0, int(self.np_random.integers(9)))
            return 0.0, False
        self.ball = (self.ball[0] + 1, self.ball[1])
        if self.ball[0] < 8:
            return 0.0, False
        return (1.0 if abs(self.ball[1] - self.paddle) <= 1 else -1.0), False

    def cells(self) -> Image:
        cells = self.black()
        for other in self.others:
            cells[other] = DARK
        cells[-1, self.paddle - 1 : self.paddle + 2] = GRAY
        cells[self.ball] = WHITE
        return cells

    def best_action(self) -> int:
        return 1 + int(np.sign(self.ball[1] - self.paddle))


class Wind(Grid):
    """Chance: one step in four goes where the wind blows; the goal is worth 1, a pit costs 1.

    Both end the episode. The goal is white, pits are dark, the agent is gray.
    """

    WIND_PROBABILITY = 0.25

    def __init__(self) -> None:
        super().__init__((6, 6), (10, 10), actions=5, limit_steps=40)
        self.agent, self.goal, self.pits = (0, 0), (0, 0), list[Cell]()
        self.values = np.zeros(self.shape)

    def begin(self) -> None:
        self.agent, self.goal, *self.pits = self.free_cells(6)
        self.values = self.solved()

    def move(self, action: int) -> tuple[float, bool]:
        if self.np_random.random() < self.WIND_PROBABILITY:
            action = int(self.np_random.integers(1, 5))
        self.agent = self.moved(self.agent, action)
        if self.agent == self.goal:
            return 1.0, True
        return (-1.0, True) if self.agent in self.pits else (0.0, False)

    def cells(self) -> Image:
        cells = self.black()
        for pit in self.pits:
            cells[pit] = DARK
        cells[self.goal], cells[self.agent] = WHITE, GRAY
        return cells

    def best_action(self) -> int:
        return int(np.argmax([self.worth(self.agent, action) for action in range(5)]))

    def worth(self, place: Cell, action: int) -> float:
        """Expected value of the cell after an action."""
        calm = self.values[self.moved(place, action)]
        windy = np.mean([self.values[self.moved(place, blown)] for blown in range(1, 5)])
        return float((1 - self.WIND_PROBABILITY) * calm + self.WIND_PROBABILITY * windy)

    def solved(self) -> npt.NDArray[np.float64]:
        """Values of the cells by value iteration, a hundredth lost a step."""
        self.values = np.zeros(self.shape)
        for _ in range(40):
            new = np.zeros(self.shape)
            for place in np.ndindex(self.shape):
                new[place] = 0.99 * max(self.worth((place[0], place[1]), a) for a in range(5))
            for pit in self.pits:
                new[pit] = -1.0
            new[self.goal] = 1.0
            self.values = new
        return self.values


class Dodge(Grid):
    """Another shape and colours, [40, 96, 3]: each step without a crash is worth 0.1, 48 at most.

    A wall comes from the right over 7 columns, with one gap among five rows, where the green
    runner must be by then; the next one follows.
    """

    def __init__(self) -> None:
        super().__init__((5, 12), (8, 8), actions=3, limit_steps=48, channels=3)
        self.runner, self.gap, self.wall = 2, 0, 7

    def begin(self) -> None:
        self.runner = int(self.np_random.integers(5))
        self.new_wall()

    def new_wall(self) -> None:
        self.gap, self.wall = int(self.np_random.integers(5)), 7

    def move(self, action: int) -> tuple[float, bool]:
        self.runner = min(max(self.runner + action - 1, 0), 4)
        self.wall -= 1
        if self.wall == 0 and self.runner != self.gap:
            return 0.0, True
        if self.wall < 0:
            self.new_wall()
        return 0.1, False

    def cells(self) -> Image:
        cells = self.black()
        cells[:, self.wall] = (200, 40, 40)
        cells[self.gap, self.wall] = 0
        cells[self.runner, 0] = (40, 220, 40)
        return cells

    def best_action(self) -> int:
        return 1 + int(np.sign(self.gap - self.runner))


def distance(a: Cell, b: Cell) -> int:
    """Steps between two cells."""
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def make_recall() -> Recall:
    """Returns a new game."""
    return Recall()


def make_goals() -> Goals:
    """Returns a new game."""
    return Goals()


def make_sieve() -> Sieve:
    """Returns a new game."""
    return Sieve()


def make_wind() -> Wind:
    """Returns a new game."""
    return Wind()


def make_dodge() -> Dodge:
    """Returns a new game."""
    return Dodge()


def best_action(env: Grid) -> int:
    """What the game itself says."""
    return env.best_action()
