"""A command that says nothing for long says that it goes on."""

import sys
import time

from services.terminal.never_silent import never_silent


def test_a_silent_command_says_that_it_goes_on_until_it_ends(capsys):
    with never_silent("dreamer stop", silence_s=0.05):
        time.sleep(0.3)
    said = capsys.readouterr()
    time.sleep(0.1)
    assert said.out == "" and set(said.err.splitlines()) == {"dreamer stop: 0 s so far"}
    assert capsys.readouterr().err == ""


def test_a_command_that_speaks_is_left_alone(capsys):
    with never_silent("dreamer scores", silence_s=2.0):
        for stream in (sys.stdout, sys.stderr):
            stream.write("a line\n")
        time.sleep(0.3)
    assert capsys.readouterr() == ("a line\n", "a line\n")
