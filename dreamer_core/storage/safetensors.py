"""The safetensors format: tensors that other programs read too, and nothing that could run.

    8 bytes    N, little-endian
    N bytes    JSON: {"NAME": {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...},
               and under `__metadata__` strings; padded with spaces
    the rest   the tensors, little-endian, one behind another

https://github.com/huggingface/safetensors#format. Only float32 is written and read, and each name
is that of its group and its own within that, with a dot between them: `world_model.rssm.cell.bias`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

_METADATA = "__metadata__"
_ALIGNMENT = 8
_DTYPE, _ITEM_BYTES = "F32", 4
_LARGEST_SIZE = 2**31

Groups = dict[str, dict[str, Tensor]]
"""Tensors by group and name."""


def encode(groups: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """Returns tensors as the content of a file.

    Args:
        groups: float32 tensors by group and name; a group's name holds no dot.

    Raises:
        TypeError: a tensor is of another type.
    """
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}
    parts: list[bytes] = []
    end = 0
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32:
                raise TypeError(f"{group}.{name} is {tensor.dtype}, wanted torch.float32")
            parts.append(tensor.detach().cpu().numpy().astype("<f4").tobytes())
            begin, end = end, end + len(parts[-1])
            shape = list(tensor.shape)
            place = {"dtype": _DTYPE, "shape": shape, "data_offsets": [begin, end]}
            header[f"{group}.{name}"] = place
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % _ALIGNMENT)
    return len(head).to_bytes(8, "little") + head + b"".join(parts)


def decode(content: bytes) -> Groups:
    """Returns the tensors of a file; see `encode`.

    Raises:
        ValueError: it is no such file, is cut off, or holds tensors of another kind; says which.
    """
    header, data = _split(content)
    groups: Groups = {}
    end = 0
    for name, place in header.items():
        group, dot, rest = name.partition(".")
        if not dot:
            raise ValueError(f"a tensor {name!r} of no group")
        shape, begin, size = _place_of(name, place)
        if begin != end or begin + size > len(data):
            raise ValueError(f"tensor {name} at {begin}, wanted {size} bytes from {end} on")
        end = begin + size
        values = np.frombuffer(data[begin:end], "<f4").astype(np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise ValueError(f"tensor {name} with numbers that are not finite")
        groups.setdefault(group, {})[rest] = torch.from_numpy(values)
    if end != len(data):
        raise ValueError(f"{len(data)} bytes of tensors, wanted {end}")
    return groups


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns what the header says of each tensor, in the order of their bytes, and those."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size:
        raise ValueError(f"{len(content)} bytes, too few for a header of {size}")
    try:
        header: Any = json.loads(content[8 : 8 + size], object_pairs_hook=_each_once)
        header.pop(_METADATA, None)
        ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no header of safetensors ({error})") from error
    return dict(ordered), content[8 + size :]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns pairs by name; of a name that comes twice JSON would keep the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name that comes twice")
    return found


def _place_of(name: str, place: dict[str, Any]) -> tuple[list[int], int, int]:
    """Returns a tensor's shape, first byte and size in bytes."""
    match place:
        case {"dtype": dtype} if dtype != _DTYPE:
            raise ValueError(f"tensor {name} of type {dtype}, wanted {_DTYPE}")
        case {"shape": list(sizes), "data_offsets": [int(begin), int(end)]} if all(
            type(size) is int and 0 <= size < _LARGEST_SIZE for size in cast(list[object], sizes)
        ):
            shape = cast(list[int], sizes)
            if end - begin != _ITEM_BYTES * math.prod(shape):
                raise ValueError(f"tensor {name} of {end - begin} bytes, shape {shape}")
            return shape, begin, end - begin
        case _:
            raise ValueError(f"tensor {name} at no place: {place}")
