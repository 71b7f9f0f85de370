"""Tensors in memory that several processes of one machine share."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping

import torch
from torch import Tensor

ArenaLayout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of each tensor by its name."""
_ALIGNMENT = 64  # bytes; a cache line, and what vector instructions like


class Arena:
    """Named tensors in one anonymous file, which another process opens by its descriptor.

    Args:
        layout: of the tensors; the same in every process.
        descriptor: of the file of another arena; None makes one, with zeros.

    Attributes:
        layout: of the tensors.
        descriptor: of the file; open as long as the arena lives.
        tensors: by their names.
    """

    def __init__(self, layout: ArenaLayout, descriptor: int | None = None) -> None:
        offsets, size = dict[str, int](), 0
        for name, (shape, dtype) in layout.items():
            offsets[name] = size
            numbers = torch.Size(shape).numel() * dtype.itemsize
            size += -(-numbers // _ALIGNMENT) * _ALIGNMENT
        if descriptor is None:
            descriptor = os.memfd_create("dreamer")
            os.ftruncate(descriptor, max(size, 1))
        self.layout = dict(layout)
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        memory = mmap.mmap(descriptor, max(size, 1))
        self.tensors: dict[str, Tensor] = {
            name: _tensor(memory, offsets[name], shape, dtype)
            for name, (shape, dtype) in layout.items()
        }


def _tensor(memory: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor at an offset, with a storage of its own that ends where it does."""
    count = torch.Size(shape).numel()
    if count == 0:  # images of an environment that shows none
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset).view(shape)
