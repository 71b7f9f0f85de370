"""The learner's work without its wire: agent, checkpoints and reports around each gradient step."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.device import OutOfMemory, within_memory
from dreamer_core.agent.threads import num_threads
from dreamer_core.bars import picture_of
from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.fields import to_dict
from dreamer_core.model.operators import keep_freed_memory
from dreamer_core.replay.rewind import ReplayPosition
from dreamer_core.report.open_loop import save_open_loop
from dreamer_core.report.report import Report
from dreamer_core.run.restored import begin_from, restore
from dreamer_core.run.resume import ResumePoint, pack, unpack
from dreamer_core.run.scoring import EvaluationClock
from dreamer_core.run.sequences import liveliest, part
from dreamer_core.storage import checkpoint
from dreamer_core.storage.identity import environment_facts, require_same_run
from dreamer_core.storage.provenance import program
from dreamer_core.storage.store import StoreUnavailable, open_store, require_writable
from dreamer_core.types import Batch, EnvSpec, WeightsSnapshot

logger = logging.getLogger(__name__)

_IN_VAIN = (
    *(FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(ValueError, NotImplementedError),
)
"""What a place of checkpoints answers that will answer the same tomorrow."""
OPEN_LOOP = "open_loop"
"""Tag of the open-loop picture, and the stem of its file in the run directory."""
_CONTEXT = 5  # images that the open-loop picture reconstructs before it imagines
_PICTURES_APART = 1.05  # times the policy steps of the last one: some 100 in the longest run


class Trainer:
    """Trains an agent that begins where the newest checkpoint of its run left off.

    Args:
        config: of the run.
        spec: of the environment.
        checkpoints: directory of the run's checkpoints, unless the config names another place.

    Raises:
        BadInput: the checkpoint is of another run, environment or model; or `config.init_from`
            cannot be begun from.
        CheckpointCorrupt: there are checkpoints and none can be read.
        StorageFailed: their place cannot be read.
        OutOfMemory: the agent does not fit into memory.
    """

    def __init__(self, config: Config, spec: EnvSpec, checkpoints: Path) -> None:
        self._config = config
        self._spec = spec
        self._store = open_store(config.checkpoint, checkpoints)
        with within_memory():
            self.agent = DreamerAgent(config, spec)
        """World model, actor and critic."""
        logger.info("Gradient steps on %s", self.agent.execution)
        if self.agent.device.type == "cpu":
            keep_freed_memory()
        self._names: tuple[str, ...] = ()
        self._pending: list[Tensor] = []
        self._seconds: list[float] = []
        self._is_whole = True  # false once a gradient step broke off between two optimisers
        self.resume_point: ResumePoint | None = None
        """Of the checkpoint that this trainer began with, if that has one."""
        self._pictures = EvaluationClock(config.evaluation, spec.frames_per_policy_step)
        self._drawn_at = 0  # policy steps
        self._begun_at = 0  # policy steps that the checkpoint was made from
        self._saved_wall_time_s: float | None = None
        found = restore(self.agent, self._store, config, spec)
        if found is not None:
            self._saved_wall_time_s = found.wall_time_s
            self._drawn_at = self._begun_at = int(found.facts["policy_step"])
            self._pictures.evaluated(self._drawn_at)
            self.resume_point = unpack(found.tensors.get("resume"))
            logger.info("Resumed from %s", found.location)
        elif config.init_from is not None:
            begun = begin_from(self.agent, config.init_from, spec)
            logger.info("Began with the networks of %s", begun.location)
            self.save(policy_step=0)  # so that the run never looks there again

    @property
    def gradient_step(self) -> int:
        """Gradient steps taken."""
        return self.agent.gradient_step

    def train(self, batch: Batch, *, gradient_step: int, policy_step: int) -> Report | None:
        """Takes gradient step number `gradient_step`.

        Args:
            batch: [B, T] sequences, drawn for this step.
            gradient_step: steps taken before; a gap means that a call was lost.
            policy_step: policy steps of the run, the clock of the schedules.

        Returns:
            Means since the last report, every report_interval_gradient_steps; else None. With an
            open-loop picture of the batch about as often as there are evaluations.

        Raises:
            NonFiniteLoss: see DreamerAgent.train_step.
            OutOfMemory: the step does not fit into memory.
            PeerLost: a process that shares the batch died twice.
            ValueError: the step is not the next one.
            RuntimeError: an earlier step failed half-way.
        """
        self._require_whole()
        if gradient_step != self.gradient_step:
            raise ValueError(
                f"Wanted a batch for gradient step {self.gradient_step}, but it was drawn for "
                f"{gradient_step}: a call was lost or done twice; restore from the checkpoint"
            )
        if policy_step < self._begun_at:
            logger.warning(
                "The checkpoint was made from %s policy steps, but only %s are stored: the replay "
                "was removed or replaced, and is collected anew",
                f"{self._begun_at:,}",
                f"{policy_step:,}",
            )
            self._begun_at = 0
        started_s = time.perf_counter()
        self._is_whole = False
        with num_threads(self._config.learner.num_threads), within_memory():
            metrics = self.agent.train_step(batch, policy_step=policy_step)
        self._names = tuple(metrics)
        self._pending.append(torch.stack(list(metrics.values())))
        self._is_whole = True
        self._seconds.append(time.perf_counter() - started_s)
        interval = self._config.schedule.report_interval_gradient_steps
        if self.gradient_step % interval:
            return None
        return replace(self._report(), pictures=self._due_picture(batch, policy_step))

    def snapshot(self) -> WeightsSnapshot:
        """Returns what a policy needs to act."""
        return self.agent.snapshot()

    def save(
        self,
        *,
        policy_step: int,
        position: ReplayPosition | None = None,
        rollout: Mapping[str, Any] | None = None,
        weights: WeightsSnapshot | None = None,
    ) -> Report:
        """Writes a checkpoint of the present state.

        Args:
            policy_step: policy steps that the replay has acknowledged.
            position: where the replay stands; needed with `rollout`.
            rollout: Rollout.state(), taken while nothing was under way; None if the run cannot be
                resumed exactly.
            weights: of the collector's policy.

        Raises:
            RuntimeError: a gradient step failed half-way; the last checkpoint is the good one.
            StorageFailed: it could not be written; the last checkpoint is the good one.
        """
        self._require_whole()
        self._check()
        started_s = time.perf_counter()
        wrote = program()
        checkpoint.save(
            self._store,
            step=self.gradient_step,
            tensors={
                **self.agent.state(),
                "resume": pack(position, rollout, weights) if position and rollout else None,
            },
            facts={
                "policy_step": policy_step,
                "gradient_step": self.gradient_step,
                "replay": None if position is None else asdict(position),
                "environment": environment_facts(self._spec),
                "config": to_dict(self._config),
                "program": {"version": wrote.version, "commit": wrote.commit},
                "versions": dict(wrote.libraries),
            },
            keep=self._config.checkpoint.keep,
            keep_every=self._config.checkpoint.keep_every,
        )
        seconds = time.perf_counter() - started_s
        self._saved_wall_time_s = time.time()
        return Report(
            service="learner", values={"dreamer_checkpoint_seconds": seconds, **self._facts()}
        )

    def draw_open_loop(self, batch: Batch) -> Mapping[str, bytes]:
        """Draws truth, model and error of the batch's liveliest sequence without a reset.

        Returns:
            A PNG file under `OPEN_LOOP`; nothing if every sequence is reset after its first row.
        """
        index, length = liveliest(batch)
        if length < 2:
            return {}
        chosen = part(batch, slice(index, index + 1), slice(length))
        context = min(_CONTEXT, length - 1)
        with num_threads(self._config.learner.num_threads):
            model = self.agent.open_loop(chosen, context=context)[0]
        truth = picture_of(chosen.image, chosen.vector)[0]
        png = io.BytesIO()
        save_open_loop(png, truth, model, context=context)
        return {OPEN_LOOP: png.getvalue()}

    def _due_picture(self, batch: Batch, policy_step: int) -> Mapping[str, bytes]:
        """Draws once for each interval of evaluations, and more seldom in a long run."""
        is_soon = policy_step < _PICTURES_APART * self._drawn_at
        if is_soon or not self._pictures.is_due(policy_step):
            return {}
        self._pictures.evaluated(policy_step)
        self._drawn_at = policy_step
        try:
            with within_memory():
                return self.draw_open_loop(batch)
        except (OutOfMemory, BadInput) as error:
            logger.warning("No open-loop picture was drawn: %s", error)
            return {}

    def _check(self) -> None:
        """Waits for the device; a step that failed there leaves the trainer unusable."""
        self._is_whole = False
        self.agent.check()
        self._is_whole = True

    def _require_whole(self) -> None:
        if not self._is_whole:
            raise RuntimeError(
                f"Gradient step {self.gradient_step} failed half-way, so its state is neither "
                "trained on nor saved; resume from the last checkpoint"
            )

    def _report(self) -> Report:
        """Averages what was measured since the last report; the only wait for the device."""
        self._check()
        names = self._names
        means = torch.stack(self._pending).mean(0).tolist()
        values = dict(zip(names, means, strict=True)) | {
            "dreamer_gradient_steps_total": float(self.gradient_step),
            "dreamer_gradient_step_seconds": float(np.mean(self._seconds)),
            **self._facts(),
        }
        observations = {"dreamer_gradient_step_seconds": tuple(self._seconds)}
        self._pending, self._seconds = [], []
        return Report(service="learner", values=values, observations=observations)

    def _facts(self) -> dict[str, float]:
        """What is known between gradient steps of the newest checkpoint and of the card."""
        facts = dict[str, float]()
        if self._saved_wall_time_s is not None:
            facts["dreamer_checkpoint_timestamp_seconds"] = self._saved_wall_time_s
        if self.agent.device.type == "cuda":
            card = torch.cuda.get_device_properties(self.agent.device)
            facts["dreamer_gpu_memory_bytes"] = card.total_memory
            facts["dreamer_gpu_memory_reserved_bytes"] = torch.cuda.memory_reserved(
                self.agent.device
            )
        return facts


def require_place(config: Config, spec: EnvSpec) -> None:
    """Tries the place that the config names for checkpoints, if any, before a run is made.

    Raises:
        BadInput: it cannot be opened or written, or holds the checkpoints of another run.
        Failed: it does not answer, or its disk is full.
    """
    url = config.checkpoint.url
    if url is None:
        return
    try:
        store = open_store(config.checkpoint, Path())
        require_writable(store)
    except StoreUnavailable as error:
        if isinstance(error.__cause__, _IN_VAIN):
            raise BadInput(str(error)) from error
        raise
    found = checkpoint.newest(store)
    if found is not None:
        require_same_run(found.facts, f"{url}/{found.step:012d}", config, spec)
