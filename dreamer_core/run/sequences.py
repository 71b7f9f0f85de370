"""Sequences of a batch: parts of them, where they are reset, which is worth showing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from dreamer_core.bars import picture_of
from dreamer_core.types import Batch


def lengths(batch: Batch) -> npt.NDArray[np.int64]:
    """Rows [B] of each sequence before it is reset for the first time after its first row."""
    is_reset = batch.is_first[:, 1:]
    return np.where(is_reset.any(1), is_reset.argmax(1) + 1, batch.is_first.shape[1])


def part(batch: Batch, sequences: slice, rows: slice = slice(None)) -> Batch:
    """Returns some sequences of a batch and some rows of each."""
    columns: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    picked: dict[str, Any] = {
        name: None if column is None else column[sequences, rows]
        for name, column in columns.items()
    }
    return Batch(**picked)


def liveliest(batch: Batch) -> tuple[int, int]:
    """(index, length) of the sequence whose images change most, among those reset latest."""
    rows = lengths(batch)
    motion = [
        np.abs(np.diff(image[:length].astype(np.int16), axis=0)).mean() if length > 2 else -1.0
        for image, length in zip(picture_of(batch.image, batch.vector), rows, strict=True)
    ]
    index = max(range(len(motion)), key=lambda i: (rows[i] == rows.max(), motion[i]))
    return index, int(rows[index])
