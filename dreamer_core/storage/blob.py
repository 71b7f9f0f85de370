"""The tensors of a checkpoint as the bytes of its one large file.

    pt            torch.save, of whatever a run goes on from
    safetensors   the networks alone, of an agent that was handed on: other programs read it too

Apart from checkpoint.py so that who reads manifests alone, as `dreamer status`, imports no torch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from dreamer_core.errors import first_line
from dreamer_core.storage import safetensors
from dreamer_core.storage.manifest import Form

_PLAIN_TYPES = (int, float, bool, str, type(None))


def pack(tensors: Mapping[str, Any]) -> bytes:
    """Returns nested dictionaries and lists of tensors and plain numbers as `torch.save` does.

    Raises:
        TypeError: a value that could be saved but not loaded safely; says where.
    """
    _require_loadable(tensors, "tensors")
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    return buffer.getvalue()


def unpack(blob: bytes) -> dict[str, Any]:
    """Returns what was packed, on the CPU; nothing is unpickled but tensors and plain containers.

    Raises:
        ValueError: it is something else; names what.
    """
    try:
        tensors = torch.load(io.BytesIO(blob), weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many types on what it did not write
        raise ValueError(f"no tensors ({first_line(error)})") from error
    if not isinstance(tensors, dict):
        raise ValueError(f"a {type(tensors).__name__}, wanted a dictionary")  # noqa: TRY004
    return cast("dict[str, Any]", tensors)


def _require_loadable(value: object, where: str) -> None:
    """Raises TypeError for a leaf that `weights_only=True` would refuse to load."""
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[object, object], value).items():
            _require_loadable(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast(list[object], value)):
            _require_loadable(item, f"{where}[{index}]")
    elif not isinstance(value, torch.Tensor) and type(value) not in _PLAIN_TYPES:
        raise TypeError(
            f"{where} is {type(value).__name__}, but a checkpoint takes tensors, plain numbers, "
            "strings and None; convert it"
        )


PACK: dict[Form, Callable[[Mapping[str, Any]], bytes]] = {
    "pt": pack,
    "safetensors": safetensors.encode,
}
"""Nested dictionaries to bytes."""
UNPACK: dict[Form, Callable[[bytes], dict[str, Any]]] = {
    "pt": unpack,
    "safetensors": safetensors.decode,
}
"""And back, on the CPU; ValueError says what it is instead."""
