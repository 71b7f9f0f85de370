"""Settings of the whole process: the user's code has its own, and this program keeps its own.

An environment may switch gradients off, compute in float64 or make numpy raise, as long as it runs;
what it has set is set again in its next call. Signals stay with this program: Ctrl-C saves a run.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from typing import Any

import numpy as np

# That of `signal` looks for an enum, which takes ten times as long.
_handler_of: Any = importlib.import_module("_signal").getsignal
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_theirs: dict[str, Any] = {}  # what the user's code has set otherwise


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


_outputs = [number for number in (1, 2) if _is_open(number)]


class ProcessSettings:
    """The settings of this program while the user's code runs; made as that begins."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._handlers = [_handler_of(number) for number in _SIGNALS]
        self._ours = _settings()
        if _theirs:
            _set(_theirs, self._ours)

    def put_back(self) -> str | None:
        """Sets them again; returns what else the user's code left that nobody can go on with."""
        if os.getpid() != self._pid:
            error = sys.exc_info()[1]
            if isinstance(error, SystemExit):
                os._exit(error.code if isinstance(error.code, int) else int(bool(error.code)))
            os.write(2, b"dreamer: a process that an environment forked came back from its call\n")
            os._exit(1)  # two of them would go on with one run
        now = _settings()
        if _theirs or now != self._ours:
            for name, value in self._ours.items():
                if name in _theirs or now[name] != value:
                    _theirs[name] = now[name]
            _set(self._ours, now)
        if threading.current_thread() is threading.main_thread():
            for number, handler in zip(_SIGNALS, self._handlers, strict=True):
                if handler is not None and _handler_of(number) != handler:
                    signal.signal(number, handler)
        return None if all(map(_is_open, _outputs)) else "closed the program's output"


def has_own_dtype() -> bool:
    """Whether the user's code computes with another default dtype, which all threads share."""
    return "dtype" in _theirs


def _settings() -> dict[str, Any]:
    """What is set now, by name."""
    settings: dict[str, Any] = {"numpy": np.geterr(), "logging": logging.root.manager.disable}
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        settings["gradients"] = torch.is_grad_enabled()
        settings["dtype"] = torch.get_default_dtype()
        # What torch.get_default_device() walks modes for, in a twentieth of its time.
        module = sys.modules.get("torch.utils._device")
        settings["device"] = getattr(module, "CURRENT_DEVICE", None)
    return settings


def _set(wanted: dict[str, Any], now: dict[str, Any]) -> None:
    """Sets what is wanted and otherwise now."""
    torch: Any = sys.modules.get("torch")
    for name, value in wanted.items():
        if name not in now or now[name] == value:
            continue
        if name == "numpy":
            np.seterr(**value)
        elif name == "logging":
            logging.disable(value)
        elif name == "gradients":
            torch.set_grad_enabled(value)
        elif name == "dtype":
            torch.set_default_dtype(value)
        else:
            torch.set_default_device(value)
