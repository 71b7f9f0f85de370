"""The forms of a gradient step that are compared, each made from nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from dreamer_core.config import Config

Work = Callable[[], dict[str, Any]]
"""Finds one thing out."""


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


def all_forms(device: str) -> list[dict[str, str]]:
    """Every form in every precision, those of `variants` first."""
    if device == "cpu":
        return variants(device)
    others = [
        {"device": device, "precision": precision, "execution": execution}
        for execution in ("captured", "eager")
        for precision in ("bfloat16", "tf32", "float32")
    ]
    return [*variants(device), *(form for form in others if form not in variants(device))]


def eager(learner: dict[str, str], precision: str | None = None) -> dict[str, str]:
    """The same device, operator by operator; in the same precision unless another is named."""
    return {**learner, "precision": precision or learner["precision"], "execution": "eager"}


def name_of(learner: dict[str, str]) -> str:
    """Such as `captured bfloat16`."""
    return f"{learner['execution']} {learner['precision']}"


def attempt(work: Work) -> dict[str, Any]:
    """The result of work, or why it failed."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 (whatever a card's software raises is a result)
        return {"passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}
