"""`dreamer` commands in this process, for tests of what they do rather than of the process."""

import contextlib
import logging
import signal

import pytest

from services import cli


@contextlib.contextmanager
def own_process():
    """Gives back what a command takes over for the rest of its process: log and signals."""
    handlers, level = logging.root.handlers, logging.root.level
    taken = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logging.root.handlers = []
    yield
    logging.root.handlers, logging.root.level = handlers, level
    for number, handler in taken.items():
        signal.signal(number, handler)


def exit_code_of(*arguments):
    with own_process(), pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code or 0
