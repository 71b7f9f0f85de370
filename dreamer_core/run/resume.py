"""What a checkpoint says of collector and replay, so that a run in lockstep is resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dreamer_core.replay.rewind import ReplayPosition, RewindTarget
from dreamer_core.types import WeightsSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where collector and replay stood while no call was under way."""

    position: ReplayPosition
    """Of the replay."""
    rollout: Mapping[str, Any]
    """Rollout.state()."""
    weights: WeightsSnapshot | None
    """Of the collector's policy; None before the first."""

    @property
    def target(self) -> RewindTarget:
        """Where the replay is to go back to."""
        return RewindTarget(position=self.position, incarnation=self.rollout["incarnation"])


def pack(
    position: ReplayPosition, rollout: Mapping[str, Any], weights: WeightsSnapshot | None
) -> dict[str, Any]:
    """Returns a resume point as a checkpoint takes it: tensors and plain values."""
    policy = None if weights is None else {"version": weights.version, "params": weights.params}
    parts = {"position": asdict(position), "rollout": rollout, "policy": policy}
    return _converted(parts, np.ndarray, lambda array: torch.from_numpy(np.array(array)))


def unpack(packed: Mapping[str, Any] | None) -> ResumePoint | None:
    """Returns the resume point of a checkpoint; None if it has none."""
    if packed is None:
        return None
    parts = _converted(packed, Tensor, Tensor.numpy)
    return ResumePoint(
        position=ReplayPosition(**parts["position"]),
        rollout=parts["rollout"],
        weights=None if parts["policy"] is None else WeightsSnapshot(**parts["policy"]),
    )


def _converted(value: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """The same nested dictionaries with every leaf of this kind converted."""
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {name: _converted(item, kind, convert) for name, item in items}
    return convert(value) if isinstance(value, kind) else value
