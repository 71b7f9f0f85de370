"""What a chunk must be before it is stored: its columns, its flags, and its place."""

from __future__ import annotations

import numpy as np

from dreamer_core.replay.format import RowLayout
from dreamer_core.replay.index import EpisodeIndex
from dreamer_core.types import EpisodeChunk


def check_columns(chunk: EpisodeChunk, layout: RowLayout) -> None:
    """Raises ValueError or TypeError for a column of another shape or dtype, or not finite."""
    if len(chunk) == 0:
        raise ValueError("the chunk has no rows; send at least one")
    rows = {name: np.shape(getattr(chunk, name))[:1] for name in layout.columns}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{name} {length[0] if length else 0}" for name, length in rows.items())
        raise ValueError(f"all columns must have as many rows, got {told}")
    for name, (dtype, row_shape) in layout.columns.items():
        column: np.ndarray = getattr(chunk, name)
        if column.dtype != np.dtype(dtype):
            raise TypeError(f"{name} must be {np.dtype(dtype)}, got {column.dtype}; convert it")
        if column.shape != (len(chunk), *row_shape):
            raise ValueError(f"{name} must be {(len(chunk), *row_shape)}, got {column.shape}")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise ValueError(f"{name} holds values that are not finite; mend the environment")


def check_flags(chunk: EpisodeChunk) -> None:
    """Raises ValueError if the flags break the alignment chart of types.py."""
    if min(chunk.incarnation, chunk.episode, chunk.first_step) < 0:
        raise ValueError("incarnation, episode and first_step must be 0 or more")
    is_begin = chunk.first_step == 0
    if bool(chunk.is_first[0]) != is_begin or chunk.is_first[1:].any():
        raise ValueError(
            f"is_first must be true in row 0 of an episode and nowhere else, but first_step="
            f"{chunk.first_step} came with is_first at rows {np.flatnonzero(chunk.is_first)}"
        )
    if chunk.is_last[:-1].any():
        raise ValueError("is_last must be true in the last row only; begin a new chunk after it")
    if (chunk.is_terminal & ~chunk.is_last).any():
        raise ValueError("is_terminal without is_last: a task that has ended cannot go on")


def is_duplicate(chunk: EpisodeChunk, index: EpisodeIndex) -> bool:
    """Whether the rows are held already.

    Raises:
        ValueError: they are not, and do not follow what is held either.
    """
    key = (chunk.incarnation, chunk.episode)
    name = f"episode {chunk.episode} of incarnation {chunk.incarnation}"
    known, newest = index.find(key), index.newest
    end = 0 if known is None else known.end
    if chunk.first_step + len(chunk) <= end:
        return True
    if chunk.first_step != end:
        raise ValueError(
            f"{name} has {end} rows, so the next chunk must begin at step {end}, but came "
            f"with first_step={chunk.first_step}; send the chunks in order, or begin a new "
            "episode"
        )
    if (known is not None and known.is_closed) or (newest is not None and key < newest.key):
        raise ValueError(f"{name} has ended and takes no more rows; begin a new episode")
    return False
