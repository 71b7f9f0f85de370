"""Times drawing, opening and inserting by the size of the replay; disk and memory besides."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_core.bench.measure import (
    Measurement,
    measure,
    read_bandwidth,
    scratch_directory,
    summary,
)
from dreamer_core.bench.memory import replay_memory
from dreamer_core.config import Config, ReplayConfig
from dreamer_core.envs.suites import environment_spec
from dreamer_core.fields import to_dict
from dreamer_core.replay.replay import Replay, open_replay
from dreamer_core.types import Batch, EnvSpec, EpisodeChunk

_CHUNK_ROWS = 64
_MEMORY_BATCHES = 100


def bench_replay(config: Config, *, seconds: float, rows: tuple[int, ...]) -> Measurement:
    """Times sampling at several replay sizes; opening, inserting, disk and memory besides.

    Needs about 4.2 kB of disk a row in the temporary directory.
    """
    spec = environment_spec(config.env)
    by_size: dict[str, dict[str, Any]] = {}
    samples: list[float] = []
    for size in rows:
        with scratch_directory() as directory:
            capacity = max(size + _CHUNK_ROWS, config.replay.capacity_steps)  # evict nothing
            replay_config = dataclasses.replace(config.replay, capacity_steps=capacity)
            inserted_s = fill_replay(directory, replay_config, spec, size)
            started = time.perf_counter()
            replay = open_replay(directory, replay_config, spec)
            opened_s = time.perf_counter() - started
            samples = measure(_sampler(replay), seconds=seconds)
            replay.close()
            memory = replay_memory(directory, replay_config, spec, num_batches=_MEMORY_BATCHES)
            disk_bytes = sum(path.stat().st_blocks * 512 for path in directory.iterdir())
        by_size[str(size)] = {
            **summary(samples),
            "batches_per_second": 1 / statistics.median(samples),
            "open_s": opened_s,
            "inserted_rows_per_second": size / inserted_s,
            "disk_bytes": disk_bytes,
            "memory": dataclasses.asdict(memory),
        }
    rows_drawn = config.replay.batch_size * config.replay.batch_length
    batch_bytes = rows_drawn * (math.prod(spec.image_shape) + 4 * spec.vector_size)
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
                vector=np.zeros((_CHUNK_ROWS, spec.vector_size), np.float32),
            )
        )
        stored += _CHUNK_ROWS
        episode, step = (episode + 1, 0) if is_last else (episode, step + _CHUNK_ROWS)
    replay.close()
    return time.perf_counter() - started
