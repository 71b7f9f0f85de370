"""Small checkpoints that the tests of checkpoints and their stores share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dreamer_core.storage.checkpoint import Checkpoint, save
from dreamer_core.storage.store import Store

FACTS = {"policy_steps": 7, "config": {"seed": 0, "shape": [64, 64]}}


def tensors_of(step: int) -> dict[str, Any]:
    nested = {"moments": {0: torch.full((3,), float(step))}, "groups": [{"lr": 1e-4}], "none": None}
    return {"weight": torch.full((2, 2), step), "optimizer": nested}


def save_steps(store: Store, *steps: int, keep: int = 3, keep_every: int | None = None) -> None:
    for step in steps:
        tensors = tensors_of(step)
        save(store, step=step, tensors=tensors, facts=FACTS, keep=keep, keep_every=keep_every)


def is_step(found: Checkpoint | None, step: int) -> bool:
    """Whether this is exactly what `save_steps` saved."""
    assert found is not None and found.step == step and found.facts == FACTS
    wanted, got = tensors_of(step), found.tensors
    moments = got["optimizer"].pop("moments"), wanted["optimizer"].pop("moments")
    return (
        torch.equal(got.pop("weight"), wanted.pop("weight"))
        and torch.equal(moments[0][0], moments[1][0])
        and got == wanted
    )


def steps_in(store: Store) -> list[int]:
    """Steps of which anything is there."""
    return sorted({int(name.split("/")[0]) for name in store.names() if "/" in name})


def blob_of(store: Store, step: int) -> str:
    (name,) = (name for name in store.names() if name.startswith(f"{step:012d}/tensors-"))
    return name


def manifest_of(step: int) -> str:
    return f"{step:012d}/manifest.json"


def change(store: Store, name: str, edit: Callable[[bytes], bytes]) -> None:
    store.write(name, edit(store.read(name)))


def flip(store: Store, name: str, at: int) -> None:
    change(store, name, lambda content: content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])


class Around:
    """A store that does something before each operation on another."""

    def __init__(self, inner: Store, before: Callable[[str, str], None]) -> None:
        self._inner, self._before = inner, before
        self.location = inner.location

    def names(self) -> list[str]:
        return self._inner.names()

    def read(self, name: str) -> bytes:
        self._before("read", name)
        return self._inner.read(name)

    def write(self, name: str, content: bytes) -> None:
        self._before("write", name)
        self._inner.write(name, content)

    def delete(self, name: str) -> None:
        self._before("delete", name)
        self._inner.delete(name)
