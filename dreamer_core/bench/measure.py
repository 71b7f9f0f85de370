"""Timing with spread, and what this machine can do at best."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamer_core.agent.threads import num_threads
from dreamer_core.errors import naming

_MATRIX_SIZE = 2048
_CUDA_MATRIX_SIZE = 8192
_MIN_SAMPLES = 5
_OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def scratch_directory() -> Generator[Path]:
    """A directory for what is measured, gone after the block.

    Raises:
        BadInput: it cannot be made. Failed: the disk is full.
    """
    with naming("measure in a temporary directory", "Make room there, or name another with TMPDIR"):
        directory = tempfile.TemporaryDirectory(prefix="dreamer-bench-")
    with directory as name:
        yield Path(name)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One benchmark's result, as it goes into a file."""

    benchmark: str
    unit: str
    """What one sample did."""
    median_s: float
    p10_s: float
    p90_s: float
    samples: int
    floor_s: float | None = None
    """What the machine needs at least for the arithmetic or the memory traffic."""
    floor: str = ""
    """How the floor was found."""
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """The config."""

    @property
    def ratio_to_floor(self) -> float | None:
        """Times the floor that the median takes."""
        return self.median_s / self.floor_s if self.floor_s else None

    def to_json(self) -> dict[str, Any]:
        """Everything, with hardware, versions, commit and time of day."""
        return {
            **dataclasses.asdict(self),
            "ratio_to_floor": self.ratio_to_floor,
            **machine(),
            "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }


def measure(
    work: Callable[[], object], *, seconds: float, synchronize: Callable[[], None] = lambda: None
) -> list[float]:
    """Seconds of each call of `work`, the first, a warm-up, left out."""
    work()
    synchronize()
    samples: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(samples) < _MIN_SAMPLES or time.perf_counter() < deadline:
        started = time.perf_counter()
        work()
        synchronize()
        samples.append(time.perf_counter() - started)
    return samples


def summary(samples: list[float]) -> dict[str, Any]:
    """Median, spread and count of samples, as Measurement's fields."""
    return {
        "median_s": statistics.median(samples),
        "p10_s": float(np.quantile(samples, 0.1)),
        "p90_s": float(np.quantile(samples, 0.9)),
        "samples": len(samples),
    }


def synchronize(device: torch.device) -> None:
    """Waits until a device has done all it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product with the present threads."""
    is_cuda = device.type == "cuda"
    size, repeats = (_CUDA_MATRIX_SIZE, 10) if is_cuda else (_MATRIX_SIZE, 1)
    a = torch.randn(size, size, device=device, dtype=dtype)
    b, out = torch.randn_like(a), torch.empty_like(a)

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    samples = measure(multiply, seconds=1.0, synchronize=lambda: synchronize(device))
    return repeats * 2 * size**3 / statistics.median(samples)


def read_bandwidth(size_bytes: int) -> float:
    """Bytes per second at which one thread sums up so much memory again and again."""
    memory = torch.ones(max(size_bytes // 4, 1))
    with num_threads(1):
        samples = measure(memory.sum, seconds=0.5)
    return memory.numel() * 4 / statistics.median(samples)


def machine() -> dict[str, Any]:
    """Hardware, versions and commit."""
    hardware: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "openmp": {name: os.environ[name] for name in _OPENMP if name in os.environ},
    }
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    packages = ("torch", "numpy", "ray", "ale-py", "gymnasium")
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"hardware": hardware, "versions": versions, "commit": _commit()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """The commit of the code that runs, `-dirty` if code changed; None outside a checkout."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return None
    is_clean = (
        _git("diff", "--quiet", "HEAD", "--", "*.py", "*.toml", "constraints.txt") is not None
    )
    return commit if is_clean else f"{commit}-dirty"


def _git(*arguments: str) -> str | None:
    """What git answers about this checkout; None if it fails."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run(  # noqa: S603 (fixed arguments)
        [git, *arguments],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None
