"""Environments whose code does what it should not: each gets an answer that names it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import gymnasium
import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs import calling
from dreamer_core.envs.base import EnvironmentCrashed, UnsupportedEnvironment
from dreamer_core.envs.suites import opened
from dreamer_core.waiting import Patience
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot

IMAGE = np.zeros((64, 64, 1), np.uint8)


class Quit(BaseException):
    """Of a library that wants to get through every `except Exception`."""


class Mute(Exception):
    """Of a class whose own words fail."""

    def __str__(self) -> str:
        raise AttributeError("no words")


LEAVING = [
    *(SystemExit(0), KeyboardInterrupt(), Quit("enough")),
    *(StopIteration("no more levels"), GeneratorExit(), StopAsyncIteration(), Mute()),
]


@pytest.mark.parametrize("error", LEAVING)
@pytest.mark.parametrize("method", ["reset", "step"])
def test_what_leaves_by_an_exception_of_any_kind_is_a_crash(
    wrap: Wrap, monkeypatch: pytest.MonkeyPatch, error: BaseException, method: str
):
    inner = Counting()
    env = wrap(inner)
    env.reset()

    def leave(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(inner, method, leave)
    with pytest.raises(EnvironmentCrashed, match=f"raised {type(error).__name__} during"):
        _ = env.reset() if method == "reset" else env.step(one_hot(0))


def test_ctrl_c_in_a_call_stays_ctrl_c(wrap: Wrap):
    inner = Counting()
    inner.observe = lambda: signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    with pytest.raises(KeyboardInterrupt):
        wrap(inner).reset()
    signal.signal(signal.SIGINT, before)


def test_an_environment_cannot_end_the_program_behind_its_back(wrap: Wrap):
    inner = Counting()
    inner.observe = lambda: os._exit(0)
    with pytest.raises(EnvironmentCrashed, match=r"wanted to end the whole program \(os\._exit\)"):
        wrap(inner).reset()


def test_a_process_that_an_environment_forks_may_end_as_it_likes(wrap: Wrap):
    inner = Counting()

    def observe() -> Any:
        if (child := os.fork()) == 0:
            os._exit(7)
        return np.full((64, 64, 1), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.uint8)

    inner.observe = observe
    assert wrap(inner).reset().image[0, 0, 0] == 7


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((IMAGE, 0.0, False, {}), r"step returned 4 values, Gymnasium wants 5 \(old Gym interface"),
        ((IMAGE, 0.0, False), "step returned 3 values, Gymnasium wants 5; "),
        (IMAGE, "step returned an array of uint8 and shape .64, 64, 1., Gymnasium wants 5"),
        (None, "step returned None, Gymnasium wants 5"),
        ((IMAGE, 1e39, False, False, {}), "a reward of 1e.39, which is too large for the float32"),
        ((IMAGE, 0.0, "no", False, {}), "True or False as terminated, but returned 'no'"),
        ((IMAGE, 0.0, False, {}, False), "True or False as truncated, but returned a dict"),
        ((None, 0.0, False, False, {}), "declares a uint8 image"),
    ],
)
def test_a_step_of_another_form_is_told_what_was_wanted(wrap: Wrap, answer: Any, message: str):
    inner = Counting()
    env = wrap(inner)
    env.reset()
    inner.step = lambda _: answer
    with pytest.raises(EnvironmentCrashed, match=f"make_inner.*{message}"):
        env.step(one_hot(0))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (IMAGE, "reset returned an array of uint8"),
        ({"image": IMAGE, "speed": 0.0}, "reset returned a dict of image, speed"),
        ((IMAGE, IMAGE), r"reset returned \(ndarray, ndarray\)"),
        (None, "reset returned None"),
    ],
)
def test_a_reset_of_another_form_is_told_what_was_wanted(wrap: Wrap, answer: Any, message: str):
    inner = Counting()
    inner.reset = lambda **_: answer
    with pytest.raises(EnvironmentCrashed, match=f"{message}.*wants .observation, info.*shimmy"):
        wrap(inner).reset()


class OldReset(Counting):
    def reset(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return IMAGE


def test_lists_are_taken_as_the_tuples_that_they_stand_for(wrap: Wrap):
    inner = Counting()
    env = wrap(inner)
    inner.reset = lambda **_: [IMAGE, {}]
    env.reset()
    inner.step = lambda _: [IMAGE, 2.0, True, False, {}]
    step = env.step(one_hot(0))
    assert (step.reward, step.is_terminal) == (2.0, True)


def test_a_reset_that_takes_no_seed_is_told_apart(wrap: Wrap):
    with pytest.raises(EnvironmentCrashed, match=r"reset\(seed=\.\.\.\) \(old Gym interface\)"):
        wrap(OldReset()).reset()


def test_the_old_interface_behind_a_wrapper_of_gymnasium_is_told_as_such(wrap: Wrap):
    inner = Counting()
    env = wrap(gymnasium.wrappers.TimeLimit(inner, max_episode_steps=9))
    env.reset()
    inner.step = lambda _: (IMAGE, 0.0, False, {})
    with pytest.raises(EnvironmentCrashed, match="given 4 values by step and wants 5"):
        env.step(one_hot(0))


def test_rewards_that_overflow_together_are_a_crash(wrap: Wrap):
    inner = Counting()
    inner.reward = 3e38
    env = wrap(inner, action_repeat=2)
    env.reset()
    with pytest.raises(EnvironmentCrashed, match=r"a reward of 6e.38"):
        env.step(one_hot(0))


class Server(Counting):
    """Has a process of its own, which close() ends."""

    def __init__(self) -> None:
        super().__init__()
        command = [sys.executable, "-c", "import time; time.sleep(900)"]
        self.process = subprocess.Popen(command, start_new_session=True)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def test_an_environment_whose_spaces_are_refused_is_closed(wrap: Wrap):
    inner = Server()
    inner.observation_space = gymnasium.spaces.Text(3)
    with pytest.raises(UnsupportedEnvironment):
        wrap(inner)
    assert inner.process.returncode is not None


def fail() -> None:
    raise ConnectionError("the game server did not answer")


def test_one_that_fails_to_close_is_a_warning_to_whoever_is_done(wrap: Wrap, caplog: Any):
    inner = Counting()
    inner.close = fail
    wrap(inner).reset()
    with opened(EnvConfig(suite="gymnasium", task="module_of_a_user:make_inner"), 0) as env:
        env.reset()
    assert "make_inner raised ConnectionError during close: the game server" in caplog.text


def test_one_that_does_not_come_back_from_close_is_left(wrap: Wrap, monkeypatch: Any):
    inner = Counting()
    inner.close = lambda: time.sleep(600)
    env = wrap(inner)
    monkeypatch.setattr(calling, "CLOSE_S", 0.05)
    with pytest.raises(EnvironmentCrashed, match="did not close within"):
        env.close()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_close_is_called_in_threads_as_well(wrap: Wrap):
    inner = Server()
    env = wrap(inner)
    thread = threading.Thread(target=env.close)
    thread.start()
    thread.join()
    assert inner.process.returncode is not None


def test_a_call_that_takes_long_is_said_while_it_lasts(wrap: Wrap, monkeypatch: Any, caplog: Any):
    inner, said = Counting(), threading.Event()
    monkeypatch.setattr(calling, "Patience", lambda _: Impatience(said))
    inner.observe = lambda: IMAGE if said.wait(60) else None
    with caplog.at_level(logging.WARNING):
        wrap(inner).reset()
    assert "Waits for reset of module_of_a_user:make_inner, for" in caplog.text


class Impatience(Patience):
    def __init__(self, said: threading.Event) -> None:
        super().__init__(time.monotonic())
        self._said, self._looks = said, 0

    def has_run_out(self, now_s: float) -> bool:
        self._looks += 1
        if self._looks > 1:
            self._said.set()
        return self._looks == 1


def test_patience_runs_out_after_10_s_and_then_each_time_the_wait_has_doubled():
    patience = Patience(100.0)
    words = [s for s in range(1300) if patience.has_run_out(100.0 + s)]
    assert words == [10, 20, 40, 80, 160, 320, 620, 920, 1220]
