"""The forms of a gradient step that are compared, each made from nothing."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from typing import Any

import torch

from dreamer_core.config import Config

Keep = Callable[..., None]
"""Takes the name of a result, what finds it and its arguments; writes it and what there is so far.
Does nothing where the result is there already."""


def with_learner(config: Config, **changes: Any) -> Config:
    """The config with fields of its learner changed."""
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, **changes))


def with_batch(config: Config, batch: int, length: int) -> Config:
    """The config with another batch size."""
    replay = dataclasses.replace(config.replay, batch_size=batch, batch_length=length)
    return dataclasses.replace(config, replay=replay)


def variants(device: str) -> list[dict[str, str]]:
    """Learner settings to compare with eager float32; the first is what training takes."""
    if device == "cpu":
        return [{"device": "cpu", "precision": "float32", "execution": "eager"}]
    return [
        {"device": "cuda", "precision": precision, "execution": execution}
        for precision, execution in (
            ("bfloat16", "compiled"),
            ("bfloat16", "captured"),
            ("tf32", "compiled"),
            ("float32", "compiled"),
        )
    ]


def eager(learner: dict[str, str], precision: str | None = None) -> dict[str, str]:
    """The same device, operator by operator; in the same precision unless another is named."""
    return {**learner, "precision": precision or learner["precision"], "execution": "eager"}


def name_of(learner: dict[str, str]) -> str:
    """Such as `captured bfloat16`."""
    return f"{learner['execution']} {learner['precision']}"


def fresh() -> None:
    """Frees the agent before, its graph and what was compiled for it."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def attempt(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of work, or why it failed, so that one variant does not cost the others."""
    fresh()
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001 (whatever a card's software raises is a result)
        return {"passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}
