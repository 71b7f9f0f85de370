"""Learner: trains world model, actor and critic on the batches it is handed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamer_core.config import Config
from dreamer_core.replay.rewind import ReplayPosition, RewindTarget
from dreamer_core.report.report import Report
from dreamer_core.run.trainer import Trainer
from dreamer_core.types import Batch, EnvSpec, WeightsSnapshot
from services.logs import log_to_stderr


class Learner:
    """A trainer behind a wire; begins where the run's newest checkpoint left off.

    Args:
        config: of the run.
        spec: of the environment.
        checkpoints: directory of the checkpoints, unless the config names another place.

    Raises:
        BadInput, CheckpointCorrupt, StorageFailed, OutOfMemory: see Trainer.
    """

    def __init__(self, config: Config, spec: EnvSpec, checkpoints: Path) -> None:
        log_to_stderr("learner")
        self._trainer = Trainer(config, spec, checkpoints)
        self._idle_since_s: float | None = None
        self._wait_s = 0.0

    def resume_point(
        self,
    ) -> tuple[RewindTarget | None, int | None, Mapping[str, Any] | None, WeightsSnapshot | None]:
        """What the checkpoint says of the others, in parts for those who need them; once.

        Returns:
            Where the replay goes back to, the version of the collector's weights, the state of its
            rollout, the weights. All None unless the run can be resumed exactly.
        """
        point, self._trainer.resume_point = self._trainer.resume_point, None
        if point is None:
            return None, None, None, None
        version = None if point.weights is None else point.weights.version
        return point.target, version, point.rollout, point.weights

    def gradient_step(self) -> int:
        """Gradient steps taken."""
        return self._trainer.gradient_step

    def train(self, batch: Batch, gradient_step: int, policy_step: int) -> Report | None:
        """Takes one gradient step; see Trainer.train.

        Raises:
            NonFiniteLoss: a loss became NaN or infinite; the run has to stop.
        """
        if self._idle_since_s is not None:
            self._wait_s += time.monotonic() - self._idle_since_s
        report = self._trainer.train(batch, gradient_step=gradient_step, policy_step=policy_step)
        self._idle_since_s = time.monotonic()
        if report is None:
            return None
        values = {**report.values, "dreamer_sample_wait_seconds_total": self._wait_s}
        return dataclasses.replace(report, values=values)

    def snapshot(self) -> tuple[WeightsSnapshot, int]:
        """Returns what a policy needs, and its version apart for whoever does not want it all."""
        weights = self._trainer.snapshot()
        return weights, weights.version

    def save(
        self,
        policy_step: int,
        position: ReplayPosition,
        rollout: Mapping[str, Any] | None = None,
        weights: WeightsSnapshot | None = None,
    ) -> Report:
        """Writes a checkpoint; see Trainer.save.

        Raises:
            StorageFailed: it could not be written; the last checkpoint is the good one.
        """
        return self._trainer.save(
            policy_step=policy_step, position=position, rollout=rollout, weights=weights
        )

    def draw_open_loop(self, batch: Batch) -> Mapping[str, bytes]:
        """Draws truth, model and error of one sequence of the batch; see Trainer."""
        return self._trainer.draw_open_loop(batch)
