"""Calls of the user's code: whatever it does, its end is an answer or `EnvironmentCrashed`.

It may raise anything, `SystemExit` and `KeyboardInterrupt` included, end the process, or never come
back. A call that takes long is said in the log while it lasts.
"""

from __future__ import annotations

import dis
import inspect
import logging
import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

from dreamer_core.envs.base import CLOSE_S, OWN_PACKAGES, EnvironmentCrashed
from dreamer_core.envs.leaving import on_c_exit
from dreamer_core.envs.process import ProcessSettings
from dreamer_core.errors import DreamerError
from dreamer_core.waiting import Patience

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_MOST_WORDS = 2000  # characters of an exception that are told


class _Left(BaseException):
    """What `os._exit` raises in a call of the user's code."""


def calling(task: str, doing: str) -> AbstractContextManager[None]:
    """Runs a block of the user's code.

    Args:
        task: which environment.
        doing: what is called, such as "reset".

    Raises:
        EnvironmentCrashed: the block raised or tried to end the process; DreamerErrors go through,
            and so does Ctrl-C.
    """
    return _Call(task, doing)


class _Call(AbstractContextManager[None]):
    """A block of the user's code; no generator, through which no StopIteration could be raised."""

    def __init__(self, task: str, doing: str) -> None:
        self._task, self._doing = task, doing

    def __enter__(self) -> None:
        self._settings = None
        if not _calls.is_under_way():  # else an environment calls another, as a part of itself
            _calls.begin(f"{self._doing} of {self._task}")
            self._settings = ProcessSettings()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        try:
            left = None if self._settings is None else self._settings.put_back()
            if left is not None:
                raise EnvironmentCrashed(
                    f"{self._task} {left} during {self._doing}; have it leave that as it was"
                ) from error
            if error is None or isinstance(error, DreamerError) or _is_ctrl_c(error):
                return
            raise EnvironmentCrashed(self._words(error)) from error
        finally:
            if self._settings is not None:
                _calls.end()

    def _words(self, error: BaseException) -> str:
        if isinstance(error, _Left):
            return (
                f"{self._task} wanted to end the whole program (os._exit) during {self._doing}; "
                "have it raise an exception instead"
            )
        name, said = type(error).__name__, _said_by(error)
        words = f"{self._task} raised {name} during {self._doing}: {said}".removesuffix(": ")
        return words + _advice(error, said, self._doing)


def _said_by(error: BaseException) -> str:
    """The words of an exception, whose class may be of the user's making; not all of a book."""
    try:
        words = str(error)
    except Exception as failure:  # noqa: BLE001 (the first failure is the one to tell)
        return f"(its __str__ raised {type(failure).__name__})"
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}..."


@contextmanager
def closing(task: str) -> Generator[None]:
    """Runs the user's close(), for at most CLOSE_S seconds where Python can end it.

    Raises:
        EnvironmentCrashed: it raised, or took longer.
    """

    def give_up(*_: Any) -> NoReturn:
        raise EnvironmentCrashed(
            f"{task} did not close within {CLOSE_S:g} s; see what its close() waits for"
        )

    if threading.current_thread() is not threading.main_thread():  # where no signals are handled
        with calling(task, "close"):
            yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, CLOSE_S)
    try:
        with calling(task, "close"):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether an exception is Python's answer to Ctrl-C, and not what a `raise` has made."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    raised_by = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return dis.opname[raised_by] != "RAISE_VARARGS"


def _advice(error: BaseException, words: str, doing: str) -> str:
    """What may be done about an exception of which the usual reason is known."""
    if isinstance(error, ValueError) and "expected 5, got 4" in words:
        return (
            ". A wrapper of Gymnasium was given 4 values by step and wants 5 (old Gym interface); "
            + OLD_INTERFACE
        )
    if isinstance(error, TypeError) and "unexpected keyword argument 'seed'" in words:
        return f". Gymnasium calls reset(seed=...) (old Gym interface); {OLD_INTERFACE}"
    if isinstance(error, SystemExit) and doing.startswith("importing"):
        return (
            ". As a script it ends the program, or reads options that are not its own (argparse): "
            "put what only a script does under `if __name__ == '__main__':`"
        )
    if isinstance(error, ImportError) and "relative import" in words:
        return (
            ". It belongs to a package: start from the directory that holds that, and name it as "
            "`package.module:make_env`"
        )
    return ""


OLD_INTERFACE = (
    "have reset return (observation, info) and step (observation, reward, terminated, truncated, "
    "info), or wrap it: shimmy.GymV21CompatibilityV0 (pip install shimmy) turns an environment of "
    "the old interface into one of Gymnasium"
)
"""What to do about an environment that was written for Gym before 0.26."""


class _Calls:
    """Calls under way in this process, by thread; a thread of its own speaks of long ones."""

    def __init__(self) -> None:
        self._under_way: dict[int, tuple[str, Patience]] = {}
        self._pid = 0

    def begin(self, words: str) -> None:
        """Notes a call of this thread."""
        if self._pid != os.getpid():  # the first, or the first after a fork
            self._pid = os.getpid()
            threading.Thread(target=self._watch, name="slow environment", daemon=True).start()
        self._under_way[threading.get_ident()] = (words, Patience(time.monotonic()))

    def end(self) -> None:
        """The call of this thread is over."""
        self._under_way.pop(threading.get_ident(), None)

    def is_under_way(self) -> bool:
        """Whether this thread is in a call, and the process the one that made it."""
        return self.is_here() and threading.get_ident() in self._under_way

    def is_here(self) -> bool:
        """Whether this process is the one that makes calls, and none that was forked from it."""
        return self._pid == os.getpid()

    def left_in(self) -> str | None:
        """What is wrong with an exit of this thread; None where it is in no call."""
        if not self.is_under_way():
            return None
        words = self._under_way[threading.get_ident()][0]
        return (
            f"dreamer: the program was ended during {words}: C code in it called exit(). Have it "
            "raise an exception instead"
        )

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            now_s = time.monotonic()
            for words, patience in list(self._under_way.values()):
                if patience.has_run_out(now_s):
                    waited_s = now_s - patience.began_s
                    logger.warning("Waits for %s, for %.0f s now", words, waited_s)


_calls = _Calls()
_exit = os._exit


def _exit_unless_called(status: int) -> None:
    """Ends the process as `os._exit` does, unless the user's code asks for that in a call.

    In a thread of its own there is no call that could fail instead: it ends, but with words, and
    not as if all had been done.
    """
    caller = inspect.currentframe()
    name = caller.f_back.f_globals.get("__name__", "") if caller and caller.f_back else ""
    is_ours = name.partition(".")[0] in OWN_PACKAGES
    if _calls.is_under_way() and not is_ours:
        raise _Left(status)
    is_main = threading.current_thread() is threading.main_thread()  # which is ending, if here
    if _calls.is_here() and not is_main and not is_ours:
        words = f"the program was ended by os._exit({status}) of {name}, in a thread of its own"
        os.write(2, f"dreamer: {words}; have it end that thread alone\n".encode())
        status = status or 1
    _exit(status)


# An environment that leaves so would end a run with the exit code that it likes, 0 among them.
os._exit = _exit_unless_called
on_c_exit(_calls.left_in)
