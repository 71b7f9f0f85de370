"""Runs a command that the kernel kills as soon as the process that started it has ended.

    python -m services.sweep.tied PARENT_PID COMMAND [ARGUMENT ...]

A process that is killed has no time to end others; what it leaves would train on, and hold its run
directory, with nobody to watch.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>; a process keeps it when it becomes another program


def main() -> None:
    """Becomes the command.

    Raises:
        OSError: the kernel refuses, or the command cannot be run.
    """
    parent_pid, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no PR_SET_PDEATHSIG")
    if os.getppid() != int(parent_pid):
        sys.exit(1)  # it ended before the kernel was asked
    os.execv(command[0], command)  # noqa: S606 (a shell would be one more process)


if __name__ == "__main__":
    main()
