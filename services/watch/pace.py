"""The pace of a watched game: each policy step when it is due, and what holds it up otherwise."""

from __future__ import annotations

import time
from collections import deque

from services.watch.orders import Orders

_LARGEST_LAG_S = 0.2  # what was lost by more than this is not caught up
_MEASURED_STEPS = 30


class Pace:
    """Waits for the time of each policy step.

    Args:
        orders: when to play and how fast.
        real_speed: policy steps a second at speed 1.
    """

    def __init__(self, orders: Orders, real_speed: float) -> None:
        self._orders, self._real_speed = orders, real_speed
        self._next_step_s = time.monotonic()
        self._steps: deque[tuple[float, float]] = deque(maxlen=_MEASURED_STEPS)
        self._began: tuple[float, float] | None = None  # of this step: time, processor time

    def wait(self, extra_s: float = 0.0) -> None:
        """Ends a policy step and returns when the next one is due, or later by extra_s.

        Raises:
            EOFError: the orders ended.
        """
        now_s, cpu_s = time.monotonic(), time.process_time()
        if self._began is not None:
            self._steps.append((now_s - self._began[0], cpu_s - self._began[1]))
        due_s = self._next_step_s + extra_s + 1 / self.wanted_speed
        self._next_step_s = self._orders.wait(max(due_s, now_s - _LARGEST_LAG_S))
        self._began = max(now_s, self._next_step_s), cpu_s

    @property
    def wanted_speed(self) -> float:
        """Policy steps a second that were asked for."""
        return self._orders.choice.speed * self._real_speed

    @property
    def step_s(self) -> float:
        """From when a step may begin to its end, the mean of the newest ones; 0 before the first.

        Above 1 / wanted_speed the game is slower than asked for.
        """
        return self._mean(0)

    @property
    def step_cpu_s(self) -> float:
        """Processor time of this process in it."""
        return self._mean(1)

    def _mean(self, part: int) -> float:
        return sum(step[part] for step in self._steps) / max(1, len(self._steps))
