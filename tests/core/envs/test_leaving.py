"""C code that ends the process in a call of the user's code, and ends that are none of ours."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="handlers of glibc"
)

CALL = """
import ctypes, os, sys, threading
from dreamer_core.envs.calling import calling
def leave(library=ctypes.CDLL):
    library(None).exit(0)
def called(doing, *arguments):
    with calling("chase:Chase", "step"):
        doing(*arguments)
"""


def end_of(lines):
    """Exit code and stderr of a process that runs these lines."""
    command = [sys.executable, "-c", CALL + lines]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])  # without and with Python's lock
def test_an_exit_of_c_code_in_a_call_is_a_failure_that_names_the_environment(library):
    code, told = end_of(f"called(leave, ctypes.{library})")
    assert code == 1
    assert told == (
        "dreamer: the program was ended during step of chase:Chase: C code in it called exit(). "
        "Have it raise an exception instead\n"
    )


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("leave()", 0),
        ("called(len, ()); sys.exit(5)", 5),
        ("threading.Thread(target=called, args=(threading.Event().wait,), daemon=True).start()", 0),
        (
            "if os.fork(): sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\ncalled(leave)",
            1,
        ),
        ("called(lambda: os.fork() == 0 and leave() or os.wait())", 0),
    ],
)
def test_any_other_end_is_what_it_was(lines, code):
    got, told = end_of(lines)
    assert got == code and ("during step" in told) == (code == 1)
