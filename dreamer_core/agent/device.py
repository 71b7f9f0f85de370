"""What the learner computes on, and how batches get there."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dreamer_core.config_learner import LearnerConfig
from dreamer_core.errors import BadInput, Failed, first_line
from dreamer_core.model.world_model import TensorBatch
from dreamer_core.types import Batch


class OutOfMemory(Failed):
    """What was asked for does not fit into the memory that is free."""


@contextmanager
def within_memory() -> Generator[None]:
    """Raises OutOfMemory where torch finds too little memory in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_too_small = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not (is_too_small or any(words in str(error) for words in _OUT_OF_MEMORY)):
            raise
        raise OutOfMemory(
            f"There is too little memory: {first_line(error)}. Lower replay.batch_size or the "
            "sizes of the model, or end what else takes the memory"
        ) from error


def choose_device(name: str) -> torch.device:
    """Returns the device that a config names; `auto` takes CUDA where there is any.

    Raises:
        BadInput: CUDA is wanted and torch sees none.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise BadInput(
            f"learner.device=cuda, but torch {torch.__version__} sees no CUDA device; install a "
            "CUDA build of torch or set --learner.device cpu"
        )
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


@dataclass(frozen=True, slots=True)
class Execution:
    """How gradient steps run on a device."""

    device: torch.device
    dtype: torch.dtype
    """Of matrix products and convolutions."""
    is_compiled: bool
    """Kernels are fused by torch.compile."""
    is_captured: bool
    """A whole step is one CUDA graph."""
    num_processes: int = 1
    """That share a batch."""
    is_tf32: bool = False
    """Products of float32 round their factors to 10 bits."""

    def set_backends(self) -> None:
        """Tells torch, for all of this process, how CUDA multiplies."""
        if self.device.type != "cuda":
            return
        torch.backends.cudnn.allow_tf32 = self.is_tf32
        torch.backends.cuda.matmul.allow_tf32 = self.is_tf32
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        dtype = "tf32" if self.is_tf32 else str(self.dtype).removeprefix("torch.")
        form = "compiled and captured" if self.is_compiled else "captured"
        shared = f", {self.num_processes} processes" if self.num_processes > 1 else ""
        return f"{name}, {dtype}, {form if self.is_captured else 'eager'}{shared}"


def require_device(config: LearnerConfig) -> torch.device:
    """Returns the device that a config names, without opening a card that is there.

    So a process that only starts the learner takes no memory of its card, nor the card itself where
    that serves one process alone.

    Raises:
        BadInput: the config wants what the machine has not, as far as that can be told so.
    """
    device = choose_device(config.device)
    wanted = {"precision": config.precision, "execution": config.execution}
    impossible = [f"learner.{k}={v}" for k, v in wanted.items() if v not in _ON_CPU]
    if device.type == "cpu" and impossible:
        raise BadInput(
            f"{' and '.join(impossible)} needs a CUDA device, and the learner runs on the CPU; "
            "leave it at auto"
        )
    return device


def choose_execution(config: LearnerConfig) -> Execution:
    """Decides by what the machine has, where the config says `auto`.

    bfloat16 where a CUDA card multiplies it natively, float32 elsewhere: CPUs without matrix units
    are slower in bfloat16. Compiled where a C compiler and Triton are there. Opens the card.

    Raises:
        BadInput: the config wants what the machine has not.
    """
    device = require_device(config)
    if device.type == "cpu":
        return Execution(
            device,
            torch.float32,
            is_compiled=False,
            is_captured=False,
            num_processes=config.num_processes,
        )
    has_bfloat16 = _capability(device) >= _BFLOAT16  # and tf32
    if config.precision in ("bfloat16", "tf32") and not has_bfloat16:
        raise BadInput(
            f"learner.precision={config.precision}, but {torch.cuda.get_device_name(device)} has "
            f"no {config.precision} units; leave it at auto or set --learner.precision float32"
        )
    is_reduced = config.precision in ("auto", "bfloat16") and has_bfloat16
    execution = config.execution
    if execution == "auto":
        execution = "compiled" if _can_compile(device) else "captured"
    return Execution(
        device,
        torch.bfloat16 if is_reduced else torch.float32,
        is_compiled=execution == "compiled",
        is_captured=execution != "eager",
        is_tf32=config.precision == "tf32",
    )


_OUT_OF_MEMORY = ("can't allocate memory", "size calculation overflowed")
_BFLOAT16, _TRITON = (8, 0), (7, 0)  # the compute capability that each needs
_ON_CPU = {"auto", "float32", "eager"}


def _can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds its needs: compiler, Python's headers, Triton, a card for it."""
    has_compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    has_headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    has_triton = importlib.util.find_spec("triton") is not None
    return has_compiler and has_headers and has_triton and _capability(device) >= _TRITON


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


class Staging:
    """Copies batches to a device; to CUDA beside the step that is under way there.

    Each of two slots holds a batch in page-locked memory and its copy on the device. A slot is
    filled again only when the step that read it is done, so that the host runs at most two steps
    ahead. Wire arrays are read-only and stay untouched.

    Args:
        device: to copy to.
    """

    _NUM_SLOTS = 2

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slots: list[_Slot | None] = [None] * self._NUM_SLOTS
        self._next = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> TensorBatch:
        """Returns the batch as tensors, valid until the next but one call."""
        if self._stream is None:
            return to_tensors(batch, self._device)
        if self._slots[self._next] is None:
            self._slots[self._next] = _Slot.like(batch, self._device)
        slot = self._slots[self._next]
        assert slot is not None
        slot.is_read.synchronize()
        for name, pinned in slot.pinned.columns().items():
            np.copyto(pinned.numpy(), getattr(batch, name))
        with torch.cuda.stream(self._stream):
            for name, copy in slot.copy.columns().items():
                copy.copy_(getattr(slot.pinned, name), non_blocking=True)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return slot.copy

    def mark_read(self) -> None:
        """Says that the work so far in the current stream is all that reads the last batch."""
        slot = self._slots[self._next]
        if slot is not None:
            slot.is_read.record()
            self._next = (self._next + 1) % self._NUM_SLOTS


@dataclass(frozen=True, slots=True)
class _Slot:
    pinned: TensorBatch
    copy: TensorBatch
    is_read: torch.cuda.Event

    @staticmethod
    def like(batch: Batch, device: torch.device) -> _Slot:
        copy = to_tensors(batch, device)
        pinned = TensorBatch(
            **{n: torch.empty_like(x, device="cpu").pin_memory() for n, x in copy.columns().items()}
        )
        return _Slot(pinned, copy, torch.cuda.Event(blocking=True))


def to_tensors(batch: Batch, device: torch.device) -> TensorBatch:
    """Copies a batch to the device and waits for it."""
    return TensorBatch(
        **{
            field.name: torch.tensor(getattr(batch, field.name), device=device)
            for field in dataclasses.fields(TensorBatch)
            if getattr(batch, field.name) is not None
        }
    )
