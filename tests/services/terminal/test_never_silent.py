"""A command that says nothing for long says that it goes on."""

import sys
import time
from types import SimpleNamespace

import pytest

from services.terminal import never_silent as module
from services.terminal.never_silent import never_silent


@pytest.fixture
def clock(monkeypatch):
    """The clock of the command: its seconds, and `looks`, how often it was looked at."""
    clock = SimpleNamespace(now_s=0.0, looks=0)

    def monotonic():
        now_s = clock.now_s
        clock.looks += 1
        return now_s

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
    return clock


def let_it_look(clock):
    """Waits until it has seen what the clock says now, and said what it has to say."""
    wanted, give_up_s = clock.looks + 4, time.monotonic() + 60
    while clock.looks < wanted:
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_silent_command_says_that_it_goes_on_until_it_ends(clock, capsys):
    with never_silent("dreamer stop", silence_s=0.09):
        for clock.now_s in (0.08, 9.0, 18.0, 18.08):
            let_it_look(clock)
    assert capsys.readouterr() == ("", "dreamer stop: 9 s so far\ndreamer stop: 18 s so far\n")
    clock.now_s = 99.0
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_command_that_speaks_is_left_alone(clock, capsys):
    with never_silent("dreamer scores", silence_s=0.09):
        for n, stream in enumerate((sys.stdout, sys.stderr), 1):
            clock.now_s = n * 0.08
            stream.write("a line\n")
            let_it_look(clock)
    assert capsys.readouterr() == ("a line\n", "a line\n")
