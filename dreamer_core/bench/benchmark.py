"""Measures the parts that need no cluster: gradient step, policy step, replay, environment.

Each function warms up, measures for a number of seconds, waits for the device around every sample
and returns a Measurement: median and spread beside the floor that this machine's own arithmetic or
memory sets, measured in the same process.
"""

from __future__ import annotations

import dataclasses
import itertools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import Policy, step_generator
from dreamer_core.agent.threads import num_threads
from dreamer_core.bench.measure import (
    Measurement,
    matrix_rate,
    measure,
    read_bandwidth,
    summary,
    synchronize,
)
from dreamer_core.bench.memory import replay_memory
from dreamer_core.config import Config, ReplayConfig, to_dict
from dreamer_core.envs.suites import environment_spec, make_env
from dreamer_core.model.operators import keep_freed_memory
from dreamer_core.replay.replay import Replay, open_replay
from dreamer_core.run.rollout import random_action
from dreamer_core.types import Batch, EnvSpec, EpisodeChunk

_COMPONENT_STEPS = 3
_CHUNK_ROWS = 64
_MEMORY_BATCHES = 100


# --- Gradient step --------------------------------------------------------------------------------


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
        rate = matrix_rate(agent.device, agent.execution.dtype)
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


def update_flops(config: Config, spec: EnvSpec) -> dict[str, float]:
    """Floating-point operations of one update done densely, by component.

    A multiply-add counts as two. A trained layer takes three products, forward, towards its input
    and towards its weights; the first of a network that reads data takes two.
    """
    sizes, behavior = config.world_model, config.behavior
    rows = config.replay.batch_size * config.replay.batch_length
    depth, channels = sizes.conv_depth, spec.image_shape[-1]
    stats = sizes.stoch * (sizes.classes if sizes.latent == "categorical" else 2)
    stoch = sizes.stoch * (sizes.classes if sizes.latent == "categorical" else 1)
    feat, embed, actions = sizes.deter + stoch, 32 * depth, spec.action_size

    def mlp(layers: int, units: int, outputs: int) -> float:
        return feat * units + (layers - 1) * units**2 + units * outputs

    first = 31**2 * depth * channels * 16
    encoder = first + 16 * depth**2 * (14**2 * 2 + 6**2 * 8 + 2**2 * 32)
    decoder = (
        feat * 32 * depth
        + 25 * (32 * 4 + 25 * 4 * 2) * depth**2
        + 36 * (13**2 * 2 * depth**2 + 30**2 * depth * channels)
    )
    dynamics = (
        (stoch + actions) * sizes.hidden
        + (sizes.hidden + sizes.deter) * 3 * sizes.deter
        + sizes.deter * sizes.hidden
        + sizes.hidden * stats
    )  # input layer, GRU and prior
    posterior = (sizes.deter + embed) * sizes.hidden + sizes.hidden * stats
    heads = (2 if sizes.has_discount_head else 1) * mlp(sizes.head_layers, sizes.head_units, 1)
    actor = mlp(behavior.layers, behavior.units, actions if spec.is_discrete else 2 * actions)
    critic = mlp(behavior.layers, behavior.units, 1)
    horizon, from_data = behavior.horizon, feat * behavior.units
    return {
        "encoder": 2 * rows * (3 * encoder - first),
        "decoder": 6 * rows * decoder,
        "observe": 6 * rows * (dynamics + posterior),
        "heads": 6 * rows * heads,
        "imagination": 2 * rows * (horizon * (dynamics + actor) + (horizon + 1) * heads),
        "slow_critic": 2 * rows * (horizon + 1) * critic,
        "actor": 2 * rows * (horizon - 1) * (3 * actor - from_data),
        "critic": 2 * rows * horizon * (3 * critic - from_data),
    }


def random_batch(config: Config, spec: EnvSpec, seed: int = 0) -> Batch:
    """Random rows [B, T] with a few resets."""
    shape = (config.replay.batch_size, config.replay.batch_length)
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (*shape, spec.action_size)).astype(np.float32)
    if spec.is_discrete:
        action = np.eye(spec.action_size, dtype=np.float32)[action.argmax(-1)]
    return Batch(
        image=rng.integers(0, 256, (*shape, *spec.image_shape), dtype=np.uint8),
        prev_action=action,
        reward=rng.normal(size=shape).astype(np.float32),
        is_first=rng.random(shape) < 0.02,
        is_terminal=rng.random(shape) < 0.02,
    )


def _components(agent: DreamerAgent, batch: Batch) -> dict[str, float]:
    """Seconds of the parts of one step, medians of a few; backward passes are one."""
    model, behavior = agent.world_model, agent.behavior
    parts = {
        "encoder forward": (model, "_encode"),
        "observe forward": (model.rssm, "observe"),
        "decoder forward": (model.decoder, "forward"),
        "world model loss forward, decoder included": (model, "_loss_of"),
        "imagination": (behavior, "imagine"),
        "behavior loss forward": (behavior, "_loss_of"),
        "noise": (agent, "_inputs"),
        "whole step": (agent, "train_step"),
        **{f"{name} optimizer": (opt, "apply") for name, opt in agent.optimizers.items()},
    }
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
    parts: Mapping[str, tuple[object, str]],
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

    for name, (owner, method) in parts.items():
        object.__setattr__(owner, method, timed(name, getattr(owner, method)))
    try:
        yield
    finally:
        for owner, method in parts.values():
            object.__delattr__(owner, method)


# --- Policy and environment -----------------------------------------------------------------------


def bench_policy(config: Config, *, seconds: float) -> Measurement:
    """Times policy steps of one image on one thread, as the collector takes them."""
    spec = environment_spec(config.env)
    policy = Policy(config, spec)
    agent = DreamerAgent(
        dataclasses.replace(config, learner=dataclasses.replace(config.learner, device="cpu")), spec
    )
    policy.load(agent.snapshot())
    image = random_batch(config, spec).image[0, 0]
    state, steps = policy.initial(), 0

    def act() -> None:
        nonlocal state, steps
        generator = step_generator(0, steps)
        _, state = policy.act(state, image, generator, "sample")
        steps += 1

    with num_threads(1):
        samples = measure(act, seconds=seconds)
        rate = matrix_rate(torch.device("cpu"), torch.float32)
    # The part of the layers on z that a one-hot z leaves unread is not counted.
    sizes = config.world_model
    skipped = sizes.stoch * (sizes.classes - 1) if sizes.latent == "categorical" else 0
    parameters = sum(p.numel() for p in Policy.needed(dict(policy.named_parameters())).values())
    parameters -= skipped * (sizes.hidden + config.behavior.units)
    bandwidth = read_bandwidth(parameters * 4)
    encoder = update_flops(config, spec)["encoder"] / 3
    encoder /= config.replay.batch_size * config.replay.batch_length
    dense = 2 * (parameters - sum(p.numel() for p in policy.encoder.parameters()))
    return Measurement(
        benchmark="policy",
        unit="policy step of one image, one thread",
        **summary(samples),
        floor_s=max(parameters * 4 / bandwidth, (encoder + dense) / rate),
        floor=(
            f"the larger of {parameters * 4 / 1e6:.0f} MB of weights at {bandwidth / 1e9:.0f} GB/s "
            f"and {(encoder + dense) / 1e6:.0f} MFLOP at {rate / 1e9:.0f} GFLOP/s"
        ),
        details={"policy_steps_per_second": 1 / statistics.median(samples)},
        settings=to_dict(config),
    )


def bench_env(config: Config, *, seconds: float) -> Measurement:
    """Times environment steps under random play, resets included."""
    env = make_env(config.env, seed=0)
    rng = np.random.default_rng(0)
    step = env.reset()

    def take() -> None:
        nonlocal step
        step = env.reset() if step.is_last else env.step(random_action(rng, env))

    try:
        samples = measure(take, seconds=seconds)
    finally:
        env.close()
    mean = statistics.fmean(samples)
    return Measurement(
        benchmark="env",
        unit=f"policy step of {config.env.task}, {config.env.action_repeat} frames",
        **summary(samples),
        details={
            "policy_steps_per_second": 1 / mean,
            "frames_per_second": config.env.action_repeat / mean,
        },
        settings=to_dict(config),
    )


# --- Replay ---------------------------------------------------------------------------------------


def bench_replay(config: Config, *, seconds: float, rows: tuple[int, ...]) -> Measurement:
    """Times sampling at several replay sizes; opening, inserting, disk and memory besides.

    Needs about 4.2 kB of disk a row in the temporary directory.
    """
    spec = environment_spec(config.env)
    by_size: dict[str, dict[str, Any]] = {}
    samples: list[float] = []
    for size in rows:
        with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as name:
            capacity = max(size + _CHUNK_ROWS, config.replay.capacity_steps)  # evict nothing
            replay_config = dataclasses.replace(config.replay, capacity_steps=capacity)
            inserted_s = fill_replay(Path(name), replay_config, spec, size)
            started = time.perf_counter()
            replay = open_replay(Path(name), replay_config, spec)
            opened_s = time.perf_counter() - started
            samples = measure(_sampler(replay), seconds=seconds)
            replay.close()
            memory = replay_memory(Path(name), replay_config, spec, num_batches=_MEMORY_BATCHES)
            disk_bytes = sum(path.stat().st_blocks * 512 for path in Path(name).iterdir())
        by_size[str(size)] = {
            **summary(samples),
            "batches_per_second": 1 / statistics.median(samples),
            "open_s": opened_s,
            "inserted_rows_per_second": size / inserted_s,
            "disk_bytes": disk_bytes,
            "memory": dataclasses.asdict(memory),
        }
    batch_bytes = config.replay.batch_size * config.replay.batch_length * int(
        np.prod(spec.image_shape)
    )  # fmt: skip
    bandwidth = read_bandwidth(batch_bytes)
    return Measurement(
        benchmark="replay",
        unit=(
            f"batch of {config.replay.batch_size} x {config.replay.batch_length} "
            f"from {rows[-1]} rows"
        ),
        **summary(samples),
        floor_s=batch_bytes / bandwidth,
        floor=f"{batch_bytes / 1e6:.1f} MB read at {bandwidth / 1e9:.0f} GB/s",
        details={"by_rows": by_size},
        settings=to_dict(config),
    )


def _sampler(replay: Replay) -> Callable[[], Batch]:
    steps = itertools.count()
    return lambda: replay.sample(next(steps), 0)


def fill_replay(directory: Path, config: ReplayConfig, spec: EnvSpec, rows: int) -> float:
    """Stores so many random rows in episodes of 1,000 steps; returns the seconds it took."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (_CHUNK_ROWS, *spec.image_shape), dtype=np.uint8)
    replay = open_replay(directory, config, spec)
    started = time.perf_counter()
    stored, episode, step = 0, 0, 0
    while stored < rows:
        is_last = step + _CHUNK_ROWS >= 1_000
        flags = np.zeros(_CHUNK_ROWS, bool)
        first, last = flags.copy(), flags.copy()
        first[0], last[-1] = step == 0, is_last
        replay.insert(
            EpisodeChunk(
                incarnation=0,
                episode=episode,
                first_step=step,
                image=image,
                prev_action=np.zeros((_CHUNK_ROWS, spec.action_size), np.float32),
                reward=np.zeros(_CHUNK_ROWS, np.float32),
                is_first=first,
                is_last=last,
                is_terminal=flags,
            )
        )
        stored += _CHUNK_ROWS
        episode, step = (episode + 1, 0) if is_last else (episode, step + _CHUNK_ROWS)
    replay.close()
    return time.perf_counter() - started


def _peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a CUDA device, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
