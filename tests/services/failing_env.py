"""Catch with a habit: what a user's environment may do to a run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.learning.catch import Catch

CALM_STEPS = 120


class FailingCatch(Catch):
    """Raises in step number `calm_steps` of each life of its process.

    Args:
        calm_steps: steps that go well before the one that raises.
    """

    def __init__(self, calm_steps: int) -> None:
        super().__init__()
        self._steps_left = calm_steps

    def step(self, action: int) -> Any:
        if self._steps_left == 0:
            raise RuntimeError("the simulator's licence ran out")
        self._steps_left -= 1
        return super().step(action)


class ObedientCatch(Catch):
    """In a collector does what the files say that lie where OBEDIENT_DIR tells.

    It waits while there is `hold`, after as many steps of its life as stand in it, and raises once
    there is `fail`, which it removes. `opened` and `closed` get the ids of the processes that make
    and close one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._num_steps = 0
        is_collector = Path("/proc/self/cmdline").read_text().startswith("ray::Collector")
        self._directory = Path(os.environ.get("OBEDIENT_DIR", os.devnull))
        self._orders = self._directory if is_collector else None
        self._note("opened")

    def close(self) -> None:
        self._note("closed")

    def _note(self, what: str) -> None:
        if self._directory.is_dir():
            with (self._directory / what).open("a") as file:
                file.write(f"{os.getpid()}\n")

    def _is_held(self, orders: Path) -> bool:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self._num_steps >= int((orders / "hold").read_text() or 0)
        return False

    def step(self, action: int) -> Any:
        if self._orders is not None:
            while self._is_held(self._orders):
                time.sleep(0.01)
            if (self._orders / "fail").exists():
                (self._orders / "fail").unlink()
                raise RuntimeError("the simulator's licence ran out")
        self._num_steps += 1
        return super().step(action)


class SlowCatch(Catch):
    """Takes its time for a step while there is `slow` where OBEDIENT_DIR tells."""

    def step(self, action: int) -> Any:
        if Path(os.environ.get("OBEDIENT_DIR", os.devnull), "slow").exists():
            time.sleep(0.03)
        return super().step(action)


class CalmCatch(Catch):
    """Takes its time for a step, and so leaves the processors to what runs beside it."""

    def step(self, action: int) -> Any:
        time.sleep(0.02)
        return super().step(action)


class HangingCatch(FailingCatch):
    """Never comes back from the step that would raise."""

    def step(self, action: int) -> Any:
        try:
            return super().step(action)
        except RuntimeError:
            time.sleep(1e6)


def make_calm_env() -> CalmCatch:
    """Task name: `tests.services.failing_env:make_calm_env`."""
    return CalmCatch()


def make_hanging_env() -> HangingCatch:
    """Task name: `tests.services.failing_env:make_hanging_env`."""
    return HangingCatch(CALM_STEPS)


def make_failing_env() -> FailingCatch:
    """Task name: `tests.services.failing_env:make_failing_env`."""
    return FailingCatch(CALM_STEPS)


def make_obedient_env() -> ObedientCatch:
    """Task name: `tests.services.failing_env:make_obedient_env`."""
    return ObedientCatch()


def make_slow_env() -> SlowCatch:
    """Task name: `tests.services.failing_env:make_slow_env`."""
    return SlowCatch()


def make_env_with_a_process() -> Catch:
    """Starts a process that never ends, and leaves its id in the file that SLEEPER_FILE names."""
    sleeper = subprocess.Popen(["sleep", "infinity"])
    Path(os.environ["SLEEPER_FILE"]).write_text(str(sleeper.pid))
    return Catch()


def make_broken_env() -> FailingCatch:
    """Fails before anything is stored; task name: `tests.services.failing_env:make_broken_env`."""
    return FailingCatch(9)  # the trial before a run takes 8, and preset debug collects 10 at once
