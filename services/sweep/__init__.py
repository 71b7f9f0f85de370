"""Many runs, packed onto a cluster."""

from __future__ import annotations

from pathlib import Path

SWEEP_FILE = "sweep.json"
"""Says what a sweep is; only the directory of one has it."""


def is_sweep(root: Path) -> bool:
    """Whether a directory is that of a sweep."""
    return (root / SWEEP_FILE).is_file()
