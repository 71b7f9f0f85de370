"""The suite on which the small agent is judged: what each task asks, and its returns."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """A small task from pixels, `--env.task tests.learning.MODULE:MAKE`.

    The returns of the best policy known and of random play are means over episodes, measured by
    `test_tasks.py`.
    """

    name: str
    module: str
    make: str
    asks: str
    best: float
    random: float
    steps: int = 40_000
    """Policy steps of training."""
    wanted_score: float = 0.9
    """What the learning test wants of a greedy policy; see `score`."""

    @property
    def env_task(self) -> str:
        """As `--env.task` names it."""
        return f"tests.learning.{self.module}:{self.make}"

    def env(self) -> Any:
        """A new environment."""
        return getattr(importlib.import_module(f"tests.learning.{self.module}"), self.make)()

    def best_action(self) -> Callable[[Any], Any]:
        """The policy that returns `best`."""
        module = importlib.import_module(f"tests.learning.{self.module}")
        return module.best_action

    def score(self, mean_return: float) -> float:
        """How far from random play (0) to the best (1)."""
        return (mean_return - self.random) / (self.best - self.random)


TASKS = (
    Task("catch", "catch", "make_env", "choices, a reward each ten steps", 5.0, -1.67, 24_000),
    Task("reach", "reach", "make_env", "one number, dense", 39.1, 11.7, 16_000, 0.55),
    Task("plane", "reach", "make_plane", "two numbers, dense", 38.9, 9.7),
    Task("recall", "grids", "make_recall", "memory over 10 to 30 steps, sparse", 1.0, -0.33),
    Task("goals", "grids", "make_goals", "several goals", 3.0, 0.8),
    Task("sieve", "grids", "make_sieve", "moving distractors", 3.0, -1.0),
    Task("wind", "grids", "make_wind", "chance, ends that are good or bad", 0.8, -0.44),
    Task("dodge", "grids", "make_dodge", "colour images of 40 x 96, dense", 4.8, 0.84),
    Task("room", "rooms", "make_env", "MiniGrid, sparse, images of 60 x 60", 0.97, 0.46),
)
