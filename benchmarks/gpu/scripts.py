"""The tests that need a card, and scripts that check kernels which are no part of the project."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import ROOT
from benchmarks.gpu.variants import Work

TESTS = ("test_update.py", "test_captured_update.py", "test_agent.py")
_ON_CUDA = "cuda or captured or device"


def cuda_tests() -> dict[str, Work]:
    """What pytest says of the tests of the learner's forms; on a CPU it leaves out most."""
    paths = [str(ROOT / "tests/core/agent" / name) for name in TESTS]
    # Without the project's own settings, which want plugins that a card's machine need not have.
    options = ("-q", "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-rs")
    return {
        "pytest": partial(run, [sys.executable, "-m", "pytest", *paths, "-k", _ON_CUDA, *options])
    }


def scripts(folder: Path | None) -> dict[str, Work]:
    """Every check_*.py of a folder."""
    paths = [] if folder is None else sorted(folder.glob("check_*.py"))
    return {path.stem: partial(run, [sys.executable, str(path)]) for path in paths}


def run(command: list[str]) -> dict[str, Any]:
    """Whether a command succeeds, and the end of what it says."""
    done = subprocess.run(  # noqa: S603 (of this checkout, or named by who calls)
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {"passed": done.returncode == 0, "says": (done.stdout + done.stderr)[-2000:]}
