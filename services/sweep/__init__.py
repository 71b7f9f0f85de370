"""Many runs, packed onto a cluster."""

from __future__ import annotations

from pathlib import Path

SWEEP_FILE = "sweep.json"
"""Says what a sweep is; only the directory of one has it."""


def is_sweep(root: Path) -> bool:
    """Whether a directory is that of a sweep, as far as can be seen."""
    try:
        return (root / SWEEP_FILE).is_file()
    except OSError:  # what cannot be looked into is told as of a run
        return False
