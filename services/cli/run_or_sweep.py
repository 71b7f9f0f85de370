"""What `dreamer stop` and `logs` were given: a run, or a sweep."""

from __future__ import annotations

from pathlib import Path

from services.sweep import is_sweep
from services.terminal.control import RunOrSweep, run_at


def run_or_sweep_at(root: Path) -> RunOrSweep:
    """Returns where a run or a sweep has its lock and its log.

    Raises:
        RunDirectoryError: the directory holds neither.
    """
    if not is_sweep(root):
        return run_at(root)
    from services.sweep.directory import SweepDirectory  # noqa: PLC0415 (for a sweep alone)

    directory = SweepDirectory(root)
    return RunOrSweep("sweep", directory.lock, directory.log)
