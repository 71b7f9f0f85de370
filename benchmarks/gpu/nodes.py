"""Nodes of the CUDA graphs of a gradient step and what memory they take; counted, not timed.

It runs wherever calls of CUDA are answered, on a machine that only pretends to have a card too.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.variants import Work, name_of, variants, with_learner
from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.captured_policy import CapturedPolicy
from dreamer_core.agent.captured_update import CapturedUpdate
from dreamer_core.agent.policy import step_generator
from dreamer_core.bench.learner import random_batch
from dreamer_core.config import Config
from dreamer_core.types import EnvSpec


def nodes(config: Config, spec: EnvSpec, device: str, _seconds: float) -> dict[str, Work]:
    """Of every form that is captured, and of a step whose schedule of rho ends; none on a CPU."""
    if device == "cpu":
        return {}
    return {
        "policy": partial(count_policy, config, spec),
        **{name_of(form): partial(count_update, config, spec, form) for form in variants(device)},
        "schedule": partial(count_schedule, config, spec),
    }


def count_update(config: Config, spec: EnvSpec, form: dict[str, str]) -> dict[str, Any]:
    """Of one gradient step."""
    with _kept_graphs():
        agent = DreamerAgent(with_learner(config, **form), spec)
        agent.train_step(random_batch(config, spec))
    return {
        "nodes": _nodes_of(agent),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
        "reserved_memory_bytes": torch.cuda.max_memory_reserved(),
    }


def count_schedule(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """Of a captured step within a schedule of rho, which mixes in the dynamics, and after it."""
    end = 1000  # policy steps
    behavior = dataclasses.replace(
        config.behavior,
        reinforce_share=0.9,
        reinforce_share_end=1.0,
        schedule_policy_steps=end,
    )
    learner = {"device": "cuda", "precision": "bfloat16", "execution": "captured"}
    found: dict[str, Any] = {}
    with _kept_graphs():
        agent = DreamerAgent(
            with_learner(dataclasses.replace(config, behavior=behavior), **learner), spec
        )
        for name, policy_step in (("within", end // 2), ("after", end)):
            torch.cuda.reset_peak_memory_stats()
            agent.train_step(random_batch(config, spec), policy_step=policy_step)
            found[name] = {
                "nodes": _nodes_of(agent),
                "reserved_memory_bytes": torch.cuda.memory_reserved(),
            }
    is_less = found["after"]["nodes"] < found["within"]["nodes"]
    return {**found, "passed": is_less}


def count_policy(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """Of a policy step with a sampled action."""
    with _kept_graphs():
        policy = CapturedPolicy(config, spec, torch.device("cuda"))
        image = np.zeros(spec.image_shape, np.uint8)
        vector = np.zeros(spec.vector_size, np.float32) if spec.vector_size else None
        policy.act(policy.initial(), image, step_generator(0), "sample", vector)
    return {"nodes": _count(policy._captured["sample"].graph)}  # noqa: SLF001


@contextmanager
def _kept_graphs() -> Generator[None]:
    """Has graphs that are captured meanwhile keep what they were made of."""
    before = torch.cuda.CUDAGraph
    torch.cuda.CUDAGraph = partial(before, keep_graph=True)
    try:
        yield
    finally:
        torch.cuda.CUDAGraph = before


def _nodes_of(agent: DreamerAgent) -> int:
    update = agent._update  # noqa: SLF001
    assert isinstance(update, CapturedUpdate)
    assert update._graph is not None  # noqa: SLF001
    return _count(update._graph)  # noqa: SLF001


def _count(graph: torch.cuda.CUDAGraph) -> int:
    count = ctypes.c_size_t()
    made_of = ctypes.c_void_p(graph.raw_cuda_graph())
    failure = ctypes.CDLL(None).cudaGraphGetNodes(made_of, None, ctypes.byref(count))
    if failure:
        raise RuntimeError(f"cudaGraphGetNodes failed with {failure}")
    return count.value
