"""The learner's work without its wire: agent, checkpoints and reports around each gradient step."""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dreamer_core import checkpoint
from dreamer_core.agent import DreamerAgent
from dreamer_core.config import Config, to_dict
from dreamer_core.environment import EnvSpec
from dreamer_core.operators import keep_freed_memory
from dreamer_core.pictures import save_open_loop
from dreamer_core.policy import num_threads
from dreamer_core.report import OBSERVATIONS_LABEL
from dreamer_core.rewind import ReplayPosition, RewindTarget
from dreamer_core.types import Batch, Report, WeightsSnapshot

logger = logging.getLogger(__name__)

_CONTEXT = 5  # images that the open-loop picture reconstructs before it imagines


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where collector and replay stood between two calls, so that a run can be resumed exactly."""

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


class Trainer:
    """Trains an agent that begins where the newest checkpoint of its run left off.

    Args:
        config: of the run.
        spec: of the environment.
        checkpoints: directory of the run's checkpoints.

    Raises:
        ValueError: the checkpoint is of another environment or model.
        checkpoint.CheckpointCorrupt: there are checkpoints and none can be read.
    """

    def __init__(self, config: Config, spec: EnvSpec, checkpoints: Path) -> None:
        self._config = config
        self._spec = spec
        self._checkpoints = checkpoints
        self.agent = DreamerAgent(config, spec)
        """World model, actor and critic."""
        logger.info("Gradient steps on %s", self.agent.execution)
        if self.agent.device.type == "cpu":
            keep_freed_memory()
        self._names: tuple[str, ...] = ()
        self._pending: list[Tensor] = []
        self._seconds: list[float] = []
        self._report_started_s = time.monotonic()
        self._is_whole = True  # false once a gradient step broke off between two optimisers
        self.resume_point: ResumePoint | None = None
        """Of the checkpoint that this trainer began with, if that has one."""
        found = checkpoint.load(checkpoints)
        if found is not None:
            _require_environment(found.facts, spec, found.path)
            self.agent.load_state(found.tensors)
            self.resume_point = _read_resume_point(found.tensors)
            logger.info("Resumed from %s", found.path)

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
            Means since the last report, every report_interval_gradient_steps; else None.

        Raises:
            NonFiniteLoss: see DreamerAgent.train_step.
            ValueError: the step is not the next one.
            RuntimeError: an earlier step failed half-way.
        """
        self._require_whole()
        if gradient_step != self.gradient_step:
            raise ValueError(
                f"Wanted a batch for gradient step {self.gradient_step}, but it was drawn for "
                f"{gradient_step}: a call was lost or done twice; restore from the checkpoint"
            )
        started_s = time.perf_counter()
        self._is_whole = False
        with num_threads(self._config.learner.num_threads):
            metrics = self.agent.train_step(batch, policy_step=policy_step)
        self._names = tuple(metrics)
        self._pending.append(torch.stack(list(metrics.values())))
        self._is_whole = True
        self._seconds.append(time.perf_counter() - started_s)
        interval = self._config.schedule.report_interval_gradient_steps
        return self._report() if self.gradient_step % interval == 0 else None

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
        """
        self._require_whole()
        self._check()
        started_s = time.perf_counter()
        checkpoint.save(
            self._checkpoints,
            step=self.gradient_step,
            tensors={
                **self.agent.state(),
                "resume": _packed(position, rollout, weights) if position and rollout else None,
            },
            facts={
                "policy_step": policy_step,
                "gradient_step": self.gradient_step,
                "replay": None if position is None else asdict(position),
                "environment": _environment_facts(self._spec),
                "config": to_dict(self._config),
                "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy")},
            },
            keep=self._config.schedule.keep_checkpoints,
        )
        seconds = time.perf_counter() - started_s
        return Report(service="learner", values={"dreamer_checkpoint_seconds": seconds})

    def save_open_loop(self, batch: Batch, path: Path) -> bool:
        """Draws truth, model and error of the batch's liveliest sequence without a reset.

        Returns:
            False if every sequence is reset after its first row, so that there is nothing to draw.
        """
        row, length = _liveliest(batch)
        if length < 2:
            return False
        chosen = Batch(
            image=batch.image[row : row + 1, :length],
            prev_action=batch.prev_action[row : row + 1, :length],
            reward=batch.reward[row : row + 1, :length],
            is_first=batch.is_first[row : row + 1, :length],
            is_terminal=batch.is_terminal[row : row + 1, :length],
        )
        context = min(_CONTEXT, length - 1)
        with num_threads(self._config.learner.num_threads):
            model = self.agent.open_loop(chosen, context=context)[0].numpy()
        save_open_loop(path, chosen.image[0], model, context=context)
        return True

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
        now_s = time.monotonic()
        speed = len(self._seconds) / max(now_s - self._report_started_s, 1e-9)
        values = dict(zip(names, means, strict=True)) | {
            "dreamer_gradient_steps_total": float(self.gradient_step),
            "dreamer_gradient_step_seconds": float(np.mean(self._seconds)),
            "dreamer_gradient_steps_per_second": speed,
        }
        labels = {OBSERVATIONS_LABEL: {"dreamer_gradient_step_seconds": tuple(self._seconds)}}
        self._pending, self._seconds, self._report_started_s = [], [], now_s
        return Report(service="learner", values=values, labels=labels)


def _packed(
    position: ReplayPosition, rollout: Mapping[str, Any], weights: WeightsSnapshot | None
) -> dict[str, Any]:
    """A resume point as nested dictionaries of tensors and plain values."""
    policy = None if weights is None else {"version": weights.version, "params": weights.params}
    return {
        "position": asdict(position),
        "rollout": _converted(rollout, np.ndarray, lambda x: torch.from_numpy(np.array(x))),
        "policy": _converted(policy, np.ndarray, lambda x: torch.from_numpy(np.array(x))),
    }


def _read_resume_point(tensors: Mapping[str, Any]) -> ResumePoint | None:
    packed = _converted(tensors["resume"], Tensor, Tensor.numpy)
    if packed is None:
        return None
    return ResumePoint(
        position=ReplayPosition(**packed["position"]),
        rollout=packed["rollout"],
        weights=None if packed["policy"] is None else WeightsSnapshot(**packed["policy"]),
    )


def _converted(value: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """The same nested dictionaries with every leaf of this kind converted."""
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {name: _converted(item, kind, convert) for name, item in items}
    return convert(value) if isinstance(value, kind) else value


def _environment_facts(spec: EnvSpec) -> dict[str, Any]:
    return {
        "image_shape": list(spec.image_shape),
        "action_size": spec.action_size,
        "is_discrete": spec.is_discrete,
    }


def _require_environment(facts: dict[str, Any], spec: EnvSpec, path: Path) -> None:
    wanted, got = _environment_facts(spec), facts["environment"]
    if wanted != got:
        raise ValueError(
            f"The environment has {wanted}, but the checkpoint {path} was made for {got}. "
            "Resume with the environment that the run was started with, or start a new run"
        )


def _liveliest(batch: Batch) -> tuple[int, int]:
    """(row, length) of the sequence whose images change most before any later reset."""
    lengths = [
        int(row[1:].argmax()) + 1 if row[1:].any() else len(row) for row in batch.is_first
    ]  # fmt: skip
    motion = [
        np.abs(np.diff(image[:length].astype(np.int16), axis=0)).mean() if length > 2 else -1.0
        for image, length in zip(batch.image, lengths, strict=True)
    ]
    row = max(range(len(motion)), key=lambda i: (lengths[i] == max(lengths), motion[i]))
    return row, lengths[row]
