"""Settings of the process: an environment has its own, and this program keeps its own."""

import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from dreamer_core.envs import process
from dreamer_core.envs.base import EnvironmentCrashed
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot


def settings():
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        np.geterr()["divide"],
        logging.root.manager.disable,
        signal.getsignal(signal.SIGINT),
    )


@pytest.fixture
def inner(monkeypatch):
    monkeypatch.setattr(process, "_theirs", {})
    return Counting()


def test_what_an_environment_sets_is_its_own_and_there_again_in_its_next_call(wrap: Wrap, inner):
    before, theirs = settings(), []
    env = wrap(inner)

    def set_all():
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        np.seterr(divide="raise")
        logging.disable(logging.CRITICAL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return Counting.observe(inner)

    inner.observe = set_all
    env.reset()
    assert settings() == before
    inner.observe = lambda: theirs.append(settings()) or Counting.observe(inner)
    env.step(one_hot(0))
    device = torch.device("meta")
    assert theirs[0][:5] == (False, torch.float64, device, "raise", logging.CRITICAL)
    assert theirs[0][5] == before[5]  # Ctrl-C saves a run
    assert settings() == before


def test_what_an_environment_sets_back_stays_so(wrap: Wrap, inner):
    env, theirs = wrap(inner), []
    for value in (False, True):
        inner.observe = lambda v=value: (
            (torch.set_grad_enabled(v) and None) or Counting.observe(inner)
        )
        env.reset()
    inner.observe = lambda: theirs.append(torch.is_grad_enabled()) or Counting.observe(inner)
    env.reset()
    assert theirs == [True] and torch.is_grad_enabled()


def test_what_a_part_of_an_environment_sets_is_the_environments_own(wrap: Wrap, inner):
    part, theirs, before = Counting(), [], settings()
    part.observe = lambda: np.seterr(divide="raise") and Counting.observe(part)
    env, within = wrap(inner), wrap(part)

    def reset_both():
        within.reset()
        theirs.append(np.geterr()["divide"])
        return Counting.observe(inner)

    inner.observe = reset_both
    env.reset()
    inner.observe = lambda: theirs.append(np.geterr()["divide"]) or Counting.observe(inner)
    env.reset()
    assert theirs == ["raise", "raise"] and settings() == before


def test_an_environment_that_closes_the_output_is_a_crash(wrap: Wrap, inner, monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(process, "_outputs", [writing])
    inner.observe = lambda: os.close(writing)
    with pytest.raises(EnvironmentCrashed, match="closed the program's output during reset"):
        wrap(inner).reset()
    os.close(reading)


RUNAWAY = """
import os, sys, threading, time
from dreamer_core.envs.calling import calling
with calling("task", "reset"):
    {line}
print("went on")
"""


@pytest.mark.parametrize(
    ("line", "code", "words", "told"),
    [
        (
            "threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(9)",
            1,
            "os._exit(0)",
            0,
        ),
        ("child = os.fork(); child and os.waitpid(child, 0)", 0, "that an environment forked", 1),
        ("child = os.fork() or sys.exit(7); assert os.waitpid(child, 0)[1] >> 8 == 7", 0, "", 1),
    ],
)
def test_neither_a_thread_nor_a_forked_process_takes_a_run_with_it(line, code, words, told):
    program = [sys.executable, "-c", RUNAWAY.format(line=line)]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.count("went on")) == (code, told)
    assert words in ended.stderr
