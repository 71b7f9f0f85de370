"""Times the gradient step on random batches, whole and by component."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.optimizer import Optimizer
from dreamer_core.agent.threads import num_threads
from dreamer_core.bench.flops import update_flops
from dreamer_core.bench.measure import Measurement, matrix_rate, measure, summary, synchronize
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.fields import to_dict
from dreamer_core.model.behavior import Behavior
from dreamer_core.model.operators import keep_freed_memory
from dreamer_core.model.rssm import RSSM
from dreamer_core.model.world_model import WorldModel
from dreamer_core.types import Batch, EnvSpec, FloatArray

_COMPONENT_STEPS = 3


def bench_learner(config: Config, *, seconds: float) -> Measurement:
    """Times gradient steps on random batches, whole and by component."""
    spec = environment_spec(config.env)
    agent, batch = DreamerAgent(config, spec), random_batch(config, spec)
    if agent.device.type == "cpu":
        keep_freed_memory()
    flops = update_flops(config, spec)
    work = sum(flops.values())
    with num_threads(config.learner.num_threads):
        samples = measure(
            lambda: agent.train_step(batch),
            seconds=seconds,
            synchronize=lambda: synchronize(agent.device),
        )
        components = {} if agent.execution.is_captured else _components(agent, batch)
        rate = matrix_rate(agent.device, agent.execution.dtype) * agent.execution.num_processes
    rows = config.replay.batch_size * config.replay.batch_length
    median = statistics.median(samples)
    return Measurement(
        benchmark="learner",
        unit=f"gradient step of {config.replay.batch_size} x {config.replay.batch_length}",
        **summary(samples),
        floor_s=work / rate,
        floor=f"{work / 1e9:.0f} GFLOP at the measured {rate / 1e9:.0f} GFLOP/s of matrix products",
        details={
            "execution": str(agent.execution),
            "gradient_steps_per_second": 1 / median,
            "rows_per_second": rows / median,
            "gflop_by_component": {k: round(v / 1e9, 2) for k, v in flops.items()},
            "seconds_by_component": components,
            "peak_memory_bytes": _peak_memory(agent.device),
        },
        settings=to_dict(config),
    )


def random_batch(config: Config, spec: EnvSpec, seed: int = 0) -> Batch:
    """Random rows [B, T] with a few resets."""
    shape = (config.replay.batch_size, config.replay.batch_length)
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (*shape, spec.action_size)).astype(np.float32)
    if spec.is_discrete:
        classes = spec.action_classes or (spec.action_size,)
        parts = np.split(action, np.cumsum(classes)[:-1], axis=-1)
        one_hot = [np.eye(part.shape[-1], dtype=np.float32)[part.argmax(-1)] for part in parts]
        action = np.concatenate(one_hot, -1)
    return Batch(
        image=rng.integers(0, 256, (*shape, *spec.image_shape), dtype=np.uint8),
        prev_action=action,
        reward=rng.normal(size=shape).astype(np.float32),
        is_first=rng.random(shape) < 0.02,
        is_terminal=rng.random(shape) < 0.02,
        vector=_random_vectors(rng, (*shape, spec.vector_size)),
    )


def _random_vectors(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray | None:
    return rng.normal(size=shape).astype(np.float32) if shape[-1] else None


def _components(agent: DreamerAgent, batch: Batch) -> dict[str, float]:
    """Seconds of the parts of one step, medians of a few; backward passes are one."""
    model, behavior = agent.world_model, agent.behavior
    parts: dict[str, tuple[object, Callable[..., Any]]] = {
        "encoder forward": (model, WorldModel.encode),
        "observe forward": (model.rssm, RSSM.observe),
        "decoder forward": (model, WorldModel.decode),
        "world model loss forward, decoder included": (model, WorldModel.loss_of),
        "imagination": (behavior, Behavior.imagine),
        "behavior loss forward": (behavior, Behavior.loss_of),
        "noise": (agent, DreamerAgent.inputs),
        "whole step": (agent, DreamerAgent.train_step),
    }
    parts |= {f"{name} optimizer": (x, Optimizer.apply) for name, x in agent.optimizers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    with _timed(parts, seconds, lambda: synchronize(agent.device)):
        for _ in range(_COMPONENT_STEPS):
            agent.train_step(batch)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = medians.pop("whole step")
    inside = sum(v for name, v in medians.items() if name != "decoder forward")
    return {**medians, "backward passes and the rest": whole - inside}


@contextmanager
def _timed(
    parts: Mapping[str, tuple[object, Callable[..., Any]]],
    seconds: dict[str, list[float]],
    wait: Callable[[], None],
) -> Generator[None]:
    """Times methods of objects inside the block."""

    def timed(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = plain(*args, **kwargs)
            wait()
            seconds[name].append(time.perf_counter() - started)
            return result

        return run

    with ExitStack() as stack:
        for name, (owner, method) in parts.items():
            attribute = method.__name__
            plain = getattr(owner, attribute)  # of the object: it may be compiled
            stack.callback(setattr, owner, attribute, plain)
            setattr(owner, attribute, timed(name, plain))
        yield


def _peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
