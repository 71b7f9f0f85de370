"""The agent of a run's newest checkpoint, for whoever plays beside a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import Policy
from dreamer_core.config import Config, LearnerConfig
from dreamer_core.run.trainer import require_same_run
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunPaths
from dreamer_core.storage.store import open_store
from dreamer_core.types import EnvSpec


class NewestAgent:
    """An agent on the CPU that is renewed in place as the run writes checkpoints.

    Args:
        run_dir: of the run.
        config: of the run.
        spec: of the environment.

    Raises:
        OSError: the place of the checkpoints cannot be reached.
    """

    def __init__(self, run_dir: Path, config: Config, spec: EnvSpec) -> None:
        self._config = dataclasses.replace(config, learner=LearnerConfig(device="cpu"))
        self._spec = spec
        self._store = open_store(config.checkpoint, RunPaths(run_dir).checkpoints)
        self._seen: str | None = None  # hash of the newest checkpoint when it was last tried
        self.agent = DreamerAgent(self._config, spec)
        """World model, actor and critic; untrained until `renew` found a checkpoint."""
        self.policy = Policy(self._config, spec)
        """Acts with the same weights."""
        self.wall_time_s: float | None = None
        """When the checkpoint in use was saved, in seconds since 1970; None before the first."""

    def renew(self) -> bool:
        """Takes over the newest checkpoint; True if there was another one than at the last call.

        After any error the weights are those of before.

        Raises:
            CheckpointCorrupt: all there are are damaged, or were deleted meanwhile.
            ValueError: it is of another run or format.
            OSError: the place of the checkpoints cannot be read.
        """
        newest = checkpoint.newest(self._store)
        if newest is not None and newest.blob_sha256 == self._seen:
            return False
        found = checkpoint.load(self._store)  # an older one where the newest is damaged
        if found is None:
            return False
        require_same_run(found.facts, found.location, self._config, self._spec)
        self.agent.load_state(found.tensors)
        self.policy.load(self.agent.snapshot())
        self._seen = newest.blob_sha256 if newest is not None else None
        self.wall_time_s = found.wall_time_s
        return True
