"""Times drawing, opening and inserting by the size of the replay; disk and memory besides."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from dreamer_core.config import Config, EnvConfig, ReplayConfig
from dreamer_core.envs.suites import environment_spec, opened
from dreamer_core.fields import to_dict
from dreamer_core.replay.replay import Replay, open_replay
from dreamer_core.run.rollout import random_action
from dreamer_core.types import Batch, EnvSpec, EpisodeChunk, UInt8Array

_CHUNK_ROWS = 64
_MAX_IMAGES = 4096
_MEMORY_BATCHES = 100


def bench_replay(config: Config, *, seconds: float, rows: tuple[int, ...]) -> Measurement:
    """Times sampling at several replay sizes; opening, inserting, disk and memory besides.

    Each size is stored twice, compressed as a run stores it and uncompressed, and batches are drawn
    from both in turn. The images are of random play in the environment. Needs about 4.4 kB of disk
    a row in the temporary directory.
    """
    spec = environment_spec(config.env)
    images = play(config.env, min(_MAX_IMAGES, *rows))
    by_size: dict[str, dict[str, Any]] = {}
    samples: list[float] = []
    for size in rows:
        with scratch_directory() as directory:
            capacity = max(size + _CHUNK_ROWS, config.replay.capacity_steps)  # evict nothing
            replay_config = dataclasses.replace(config.replay, capacity_steps=capacity)
            bench = _SizeBench(replay_config, spec, size)
            found: list[dict[str, Any]] = []
            replays: list[Replay] = []
            for is_compressed in (True, False):
                place = directory / f"compressed_{is_compressed}"
                figures, replay = bench.stored(place, images, is_compressed=is_compressed)
                found.append(figures)
                replays.append(replay)
            drawn = _in_turn([_sampler(replay) for replay in replays], seconds=2 * seconds)
            for figures, replay, times in zip(found, replays, drawn, strict=True):
                replay.close()
                median_s = statistics.median(times)
                figures.update(summary(times), batches_per_second=1 / median_s)
            samples = drawn[0]
        by_size[str(size)] = {**found[0], "uncompressed": found[1]}
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


def play(config: EnvConfig, rows: int) -> UInt8Array:
    """Returns images [rows, H, W, channels] of random play."""
    rng = np.random.default_rng(0)
    images: list[UInt8Array] = []
    with opened(config, seed=0) as env:
        step = env.reset()
        while len(images) < rows:
            images.append(step.image)
            step = env.reset() if step.is_last else env.step(random_action(rng, env))
    return np.stack(images)


@dataclass(frozen=True, slots=True)
class _SizeBench:
    config: ReplayConfig
    spec: EnvSpec
    rows: int

    def stored(
        self, directory: Path, images: UInt8Array, *, is_compressed: bool
    ) -> tuple[dict[str, Any], Replay]:
        """Stores the rows; returns what inserting and opening took, and the replay, open."""
        inserted_s = fill_replay(
            directory, self.config, self.spec, self.rows, images, is_compressed=is_compressed
        )
        memory = replay_memory(directory, self.config, self.spec, num_batches=_MEMORY_BATCHES)
        started = time.perf_counter()
        replay = open_replay(directory, self.config, self.spec)
        opened_s = time.perf_counter() - started
        figures = {
            "open_s": opened_s,
            "inserted_rows_per_second": self.rows / inserted_s,
            "disk_bytes": sum(path.stat().st_blocks * 512 for path in directory.iterdir()),
            "memory": dataclasses.asdict(memory),
        }
        return figures, replay


def _in_turn(works: Sequence[Callable[[], object]], *, seconds: float) -> list[list[float]]:
    """Seconds of each call of each, called in turn, so that a busy machine burdens all alike."""
    samples: list[list[float]] = [[] for _ in works]

    def once() -> None:
        for work, times in zip(works, samples, strict=True):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)

    measure(once, seconds=seconds)
    return [times[1:] for times in samples]


def _sampler(replay: Replay) -> Callable[[], Batch]:
    steps = itertools.count()
    return lambda: replay.sample(next(steps), 0)


def fill_replay(
    directory: Path,
    config: ReplayConfig,
    spec: EnvSpec,
    rows: int,
    images: UInt8Array | None = None,
    *,
    is_compressed: bool = True,
) -> float:
    """Stores so many rows in episodes of 1,000 steps; returns the seconds it took.

    Their images are these, again and again; random numbers if None.
    """
    if images is None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (_CHUNK_ROWS, *spec.image_shape), dtype=np.uint8)
    replay = open_replay(directory, config, spec, is_compressed=is_compressed)
    started = time.perf_counter()
    stored, episode, step = 0, 0, 0
    while stored < rows:
        is_last = step + _CHUNK_ROWS >= 1_000
        flags = np.zeros(_CHUNK_ROWS, bool)
        first, last = flags.copy(), flags.copy()
        first[0], last[-1] = step == 0, is_last
        places = (stored + np.arange(_CHUNK_ROWS)) % len(images)
        replay.insert(
            EpisodeChunk(
                incarnation=0,
                episode=episode,
                first_step=step,
                image=images[places],
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
