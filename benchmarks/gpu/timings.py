"""Update by form and batch, staging, policy step, snapshot, and the slowest kernels."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.variants import (
    Work,
    all_forms,
    name_of,
    variants,
    with_batch,
    with_learner,
)
from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.device import Staging
from dreamer_core.bench.flops import update_flops
from dreamer_core.bench.learner import random_batch
from dreamer_core.bench.measure import matrix_rate, measure, summary, synchronize
from dreamer_core.config import Config
from dreamer_core.types import Batch, EnvSpec


def timings(config: Config, spec: EnvSpec, device: str, seconds: float) -> dict[str, Work]:
    """Update by form and batch, staging, snapshot; what training takes comes first."""
    sizes = [(50, 50), (16, 50)] if config.preset != "debug" else [(3, 8), (2, 8)]
    found: dict[str, Work] = {
        f"update {batch} x {length} {name_of(form)}": partial(
            time_update, with_learner(with_batch(config, batch, length), **form), spec, seconds
        )
        for form in all_forms(device)
        for batch, length in sizes
    }
    best = with_learner(config, **variants(device)[0])
    return {
        **found,
        "staging": partial(time_staging, best, spec, seconds),
        "snapshot": partial(time_snapshot, best, spec, seconds),
    }


def time_update(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """One variant: device-synchronised seconds, seconds in a stream of steps, memory, kernels."""
    started = time.perf_counter()
    agent, batch = DreamerAgent(config, spec), random_batch(config, spec)
    agent.train_step(batch)
    synchronize(agent.device)
    first_s = time.perf_counter() - started
    samples = measure(
        lambda: agent.train_step(batch),
        seconds=seconds,
        synchronize=lambda: synchronize(agent.device),
    )
    count = max(5, int(seconds / statistics.median(samples)))
    started = time.perf_counter()
    for _ in range(count):
        agent.train_step(batch)
    synchronize(agent.device)
    streamed_s = (time.perf_counter() - started) / count
    flops = sum(update_flops(config, spec).values())
    rate = matrix_rate(agent.device, agent.execution.dtype)
    kernels = profiled(agent, batch)
    found = {
        **summary(samples),
        "streamed_s": streamed_s,
        "first_step_s": first_s,
        "floor_s": flops / rate,
        "ratio_to_floor": streamed_s / (flops / rate),
        "matrix_tflops": rate / 1e12,
        "kernels": sum(count for _, count, _ in kernels),
        "busy_share": min(1.0, sum(us for _, _, us in kernels) / 1e6 / streamed_s),
        "slowest": [
            {"name": name[:100], "calls": count, "microseconds": round(us)}
            for name, count, us in kernels[:60]
        ],
    }
    if agent.device.type == "cuda":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_memory_bytes"] = torch.cuda.max_memory_reserved()
    return found


def profiled(agent: DreamerAgent, batch: Batch) -> list[tuple[str, int, float]]:
    """(name, calls, microseconds) of the kernels or operators of one update, slowest first."""
    on_cuda = agent.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if on_cuda:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        agent.train_step(batch)
        synchronize(agent.device)
    found = [
        (
            event.key,
            event.count,
            event.self_device_time_total if on_cuda else event.self_cpu_time_total,
        )
        for event in profile.key_averages()
        if ("CUDA" in str(event.device_type)) == on_cuda
    ]
    return sorted(found, key=lambda row: -row[2])


def time_staging(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """From numpy to the device."""
    device = torch.device(config.learner.device)
    staging, batch = Staging(device), random_batch(config, spec)

    def stage() -> None:
        staging(batch)
        staging.mark_read()

    return summary(measure(stage, seconds=seconds, synchronize=lambda: synchronize(device)))


def time_snapshot(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """Weights of the policy to host memory with steps under way; less the time of one step each."""
    agent, batch = DreamerAgent(config, spec), random_batch(config, spec)

    def step() -> None:
        agent.train_step(batch)
        synchronize(agent.device)

    def step_and_snapshot() -> None:
        agent.train_step(batch)
        agent.snapshot()

    alone = summary(measure(step, seconds=seconds))
    both = summary(measure(step_and_snapshot, seconds=seconds))
    return {"median_s": both["median_s"] - alone["median_s"], "step_and_snapshot": both}
