"""Settings of a run that trains from a fixed replay; `dreamer offline` fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dreamer_core.fields import require, require_names, require_types, setting

Actions: TypeAlias = Literal["discrete", "continuous"]
_OFFLINE = "dreamer offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineConfig:
    """Which rows a run without play of its own is trained on; none where it collects itself."""

    replays: tuple[str, ...] = setting((), _OFFLINE)
    """Replay directories, absolute; none: the run collects its own rows."""
    rows: tuple[int, ...] = setting((), _OFFLINE)
    """Rows of each that are trained on, the oldest first, so that one that grows stays the same."""
    data: str | None = setting(None, _OFFLINE)
    """Fingerprint of all these rows in their order, by which a resumed run knows them."""

    def __post_init__(self) -> None:
        require_types(self)
        require_names(self, "replays")
        require(
            len(self.rows) in (0, len(self.replays)),
            f"offline.rows has {len(self.rows)} numbers for {len(self.replays)} replays",
        )

    @property
    def is_on(self) -> bool:
        """Whether the run trains from a fixed replay."""
        return bool(self.replays)
