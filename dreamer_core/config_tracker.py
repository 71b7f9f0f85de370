"""Settings of the experiment tracker that a run reports to besides its own files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dreamer_core.fields import require, require_types, setting

_OURS = "this project; does not change the algorithm"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """Weights & Biases, if it is asked for; see report/tracker.py."""

    wandb: Literal["online", "offline"] | None = setting(None, _OURS)
    """Report to Weights & Biases too, from now on (`online`) or into `wandb/` of the run directory
    for `wandb sync` (`offline`). None: nothing of it is imported."""
    project: str = setting("dreamerv2", _OURS)
    """Project there."""

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.project), "tracker.project is empty; name a project")
