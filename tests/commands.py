"""`dreamer` commands in this process, for tests of what they do rather than of the process."""

import contextlib
import logging
import re
import signal
import sys

import pytest

from services import cli

PIXELS = ("--env.suite", "gymnasium", "--env.task", "tests.learning.catch:make_env")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SMALL = (*PIXELS, "--env.action-repeat", "1", "--learner.device", "cpu", "--steps", "60")


@contextlib.contextmanager
def own_process():
    """Gives back what a command takes over for its process: log, signals, the token of Ray."""
    handlers, level = logging.root.handlers, logging.root.level
    taken = {number: signal.getsignal(number) for number in SIGNALS}
    logging.root.handlers = []
    forget_token()
    yield
    forget_token()
    logging.root.handlers, logging.root.level = handlers, level
    for number, handler in taken.items():
        signal.signal(number, handler)


def forget_token():
    """Has Ray look for its token anew; it keeps the first that it finds."""
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader

        AuthenticationTokenLoader.instance().reset_cache()


def exit_code_of(*arguments):
    with own_process(), pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code or 0


def contents(root):
    """What each file holds, but the lock."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "run.lock")
    return {path: path.read_bytes() for path in files}


def plain(text):
    """The words, without the frames that help and errors are drawn in."""
    return " ".join(re.sub(r"[─│╭╮╰╯]", " ", text).split())
