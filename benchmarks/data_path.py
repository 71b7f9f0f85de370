"""Measures a run's data path at the pace of a fast learner, without that learner's arithmetic.

    python benchmarks/data_path.py --json benchmarks/results/data_path.json

Replay, collector, supervisor and Ray are those of `dreamer train`. The learner is too, but that a
gradient step of it is a wait of `--step-ms`. What counts is the processor time that each process
takes for a gradient step: where there are cores enough, the one that takes most sets the pace.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from dreamer_core.bench.measure import machine, scratch_directory
from dreamer_core.config import Config
from dreamer_core.files import write_json
from dreamer_core.presets import preset
from dreamer_core.report.report import Report
from dreamer_core.types import Batch
from services.bench import family
from services.runtime import actors, run
from services.runtime.config import ServiceConfig
from services.workers.learner import Learner

PREFILL = 5_000  # policy steps
_TICKS = os.sysconf("SC_CLK_TCK")


def waiting_learner(step_s: float) -> type:
    """The learner whose gradient steps are a wait of so many seconds."""

    class WaitingLearner(Learner):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._trainer.agent.train_step = self._wait

        def _wait(self, batch: Batch, **_: int) -> dict[str, torch.Tensor]:
            until_s = time.perf_counter() + step_s
            batch.image[..., 0, 0, :1].sum(dtype=int)  # brings every row here
            self._trainer.agent.gradient_step += 1
            time.sleep(max(0.0, until_s - time.perf_counter()))
            return {"dreamer_reinforce_share": torch.ones(())}

    return WaitingLearner


def processor_s() -> dict[str, float]:
    """Processor time by process name, of this process and all below it."""
    found: dict[str, float] = {}
    for pid in family():
        try:
            head, tail = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        name, fields = head.partition("(")[2], tail.split()
        name = "supervisor" if pid == os.getpid() else name
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def measure(config: Config, seconds: float) -> dict[str, Any]:
    """Runs the services for so many seconds after the random play."""
    marks: list[tuple[float, int, dict[str, float]]] = []

    def observe(_report: Report, _policy_step: int, gradient_step: int) -> None:
        if gradient_step and (not marks or time.perf_counter() - marks[-1][0] > 1):
            marks.append((time.perf_counter(), gradient_step, processor_s()))

    def should_stop() -> bool:
        return len(marks) > 1 and marks[-1][0] - marks[1][0] > seconds

    with scratch_directory() as directory:
        run.train(
            config, ServiceConfig(), directory / "run", observe=observe, should_stop=should_stop
        )
    (began_s, first, before), (ended_s, last, after) = marks[1], marks[-1]
    steps = last - first
    return {
        "gradient_steps_per_second": steps / (ended_s - began_s),
        "policy_steps_per_gradient_step": config.schedule.policy_steps_per_gradient_step,
        "processor_ms_per_gradient_step": {
            name: 1e3 * (after[name] - before.get(name, 0.0)) / steps
            for name in sorted(after, key=lambda name: before.get(name, 0.0) - after[name])
            if after[name] - before.get(name, 0.0) > 1e-4 * steps
        },
    }


def configs() -> dict[str, Config]:
    """What is run: the paper's agent, and its data with a small agent that plays."""
    atari, tiny = preset("atari"), preset("atari_tiny")
    release = preset("atari_release")
    return {
        "atari": atari,
        "atari_release": release,
        "atari, networks of atari_tiny": dataclasses.replace(
            atari, world_model=tiny.world_model, behavior=tiny.behavior
        ),
    }


def quick(config: Config) -> Config:
    """Begins to learn soon, on CPUs, and does nothing besides."""
    replace: Callable[..., Any] = dataclasses.replace
    return replace(
        config,
        learner=replace(config.learner, device="cpu", execution="eager", num_processes=1),
        schedule=replace(config.schedule, prefill_policy_steps=PREFILL, pretrain_gradient_steps=0),
        evaluation=replace(config.evaluation, interval_frames=None),
        checkpoint=replace(config.checkpoint, interval_s=3600.0),
    )


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each")
    parser.add_argument("--step-ms", type=float, default=10.0, help="that a gradient step waits")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    actors.Learner = waiting_learner(options.step_ms / 1e3)
    results = {name: measure(quick(config), options.seconds) for name, config in configs().items()}
    settings = {"step_ms": options.step_ms, "seconds": options.seconds}
    found = {**machine(), "settings": settings, "runs": results}
    for name, result in results.items():
        print(name, result)
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
