"""Replay server: stores chunks durably and serves batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dreamer_core.config import Config
from dreamer_core.replay.replay import ReplayCounts, open_replay
from dreamer_core.replay.rewind import ReplayPosition, RewindTarget
from dreamer_core.types import Batch, EnvSpec, EpisodeChunk
from services.logs import log_to_stderr


class ReplayServer:
    """A replay behind a wire.

    Args:
        config: of the run.
        spec: of the environment.
        directory: of the segments.
        is_rewindable: see Replay.
        target: see Replay.

    Raises:
        BadInput, ReplayInUse, StorageFailed: see Replay.
    """

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        directory: Path,
        *,
        is_rewindable: bool = False,
        target: RewindTarget | None = None,
    ) -> None:
        log_to_stderr("replay")
        self._seed = config.seed
        self._replay = open_replay(
            directory, config.replay, spec, is_rewindable=is_rewindable, target=target
        )

    def insert(self, chunks: Sequence[EpisodeChunk]) -> ReplayCounts:
        """Stores chunks; when the counts return, they are on disk.

        Raises:
            StaleIncarnation, StorageFailed: see Replay.insert.
        """
        for chunk in chunks:
            self._replay.insert(chunk)
        return self._replay.counts()

    def sample(self, gradient_step: int) -> Batch:
        """Draws the batch of this gradient step from what is stored now."""
        return self._replay.sample(gradient_step, self._seed)

    def counts(self) -> ReplayCounts:
        """What is stored, and was ever stored."""
        return self._replay.counts()

    def is_rewound(self) -> bool:
        """Whether the replay was taken back to its target."""
        return self._replay.is_rewound

    def fence(self, incarnation: int) -> None:
        """Refuses what collectors before this incarnation may still send."""
        self._replay.fence(incarnation)

    def flush(self) -> ReplayPosition:
        """Brings every acknowledged chunk through to the disk; tells where the replay stands."""
        return self._replay.flush()

    def release(self, position: ReplayPosition) -> None:
        """Takes note that a checkpoint with this position is safe; see Replay.release."""
        self._replay.release(position)

    def close(self) -> None:
        """Closes the segments."""
        self._replay.close()
