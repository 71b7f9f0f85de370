"""Where metrics are served, and who is told of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from dreamer_core.errors import BadInput
from dreamer_core.fields import require_types


def _targets_dir() -> Path | None:
    directory = os.environ.get("DREAMER_TARGETS_DIR")
    return Path(directory) if directory else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """The Prometheus endpoint of the command's process."""

    port: int | None = None
    """TCP port to scrape; None takes 9464, or the first after it that is free, 0 any that is free;
    the log says which."""
    address: str = "127.0.0.1"
    """Interface to listen on; loopback unless other machines are to scrape it."""
    targets_dir: Path | None = field(default_factory=_targets_dir)
    """Directory for a file that tells Prometheus of this while it runs (file_sd_configs); by
    default what the variable DREAMER_TARGETS_DIR names."""

    def __post_init__(self) -> None:
        require_types(self)
        if self.port is not None and not 0 <= self.port <= 65_535:
            raise BadInput(f"port={self.port} is no TCP port; choose 0 to 65535")
