"""The errors that somebody outside can do something about; anything else is a bug of ours.

    BadInput   what was asked for cannot be done: the message says what was wanted, what came and
               what to do; nothing was changed (exit code 2)
    Failed     what was begun could not be finished: what is stored is good, and the same command
               goes on from there (exit code 1)

A command tells these in one paragraph. Every other exception shows its trace (exit code 70).
"""

from __future__ import annotations


class DreamerError(Exception):
    """Root of the errors whose message is meant for the user."""


class BadInput(DreamerError, ValueError):
    """The user can mend it: a setting, a name, a path, an environment."""


class Failed(DreamerError, RuntimeError):
    """Something outside ended the work; it can be resumed."""
