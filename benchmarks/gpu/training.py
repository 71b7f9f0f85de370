"""Training on Atari for some minutes, again and again, and checkpoints small enough to keep."""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.report.read import read_jsonl
from dreamer_core.report.report import Report
from dreamer_core.run.local import train_local
from dreamer_core.run.trainer import Trainer
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import open_run
from dreamer_core.storage.store import LocalStore

PIECE_BYTES = 15_000_000
_ENDLESS = 1_000_000_000


def train(config: Config, run_dir: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains for some minutes from where the run directory stands; writes the curve so far."""
    spec = environment_spec(config.env)
    frames = spec.frames_per_policy_step
    steps = _ENDLESS if options.frames is None else -(-options.frames // frames)
    config = replace(config, steps=steps)
    began = time.monotonic()
    deadline = began + 60 * options.minutes
    before = newest_counts(run_dir)
    if options.weights_from and not run_dir.exists():
        begin_with(options.weights_from, config, run_dir)
    speeds: list[float] = []

    def observe(report: Report, _policy_step: int, _gradient_step: int) -> None:
        speed = report.values.get("dreamer_gradient_steps_per_second")
        if speed is not None:
            speeds.append(speed)

    def is_over() -> bool:  # each piece gets somewhere
        return time.monotonic() > deadline and newest_counts(run_dir) > before

    result = train_local(config, run_dir, observe=observe, should_stop=is_over)
    episodes = [
        (episode.policy_step * frames, episode.episode_return)
        for line in read_jsonl(run_dir / "metrics.jsonl")
        for episode in line.episodes
        if line.service == "collector"
    ]
    for picture in result.pictures:
        (out / f"{config.env.task}_{picture.name}").write_bytes(picture.read_bytes())
    if options.small_checkpoint:
        folder = out / config.env.task
        folder.mkdir(exist_ok=True)
        write_small(run_dir, folder)
    return {
        "game": config.env.task,
        "preset": config.preset,
        "seed": config.seed,
        "policy_steps": result.policy_steps,
        "frames": result.policy_steps * frames,
        "gradient_steps": result.gradient_steps,
        "median_gradient_steps_per_second": statistics.median(speeds) if speeds else None,
        "frames_per_second_of_this_piece": (result.policy_steps - before)
        * frames
        / (time.monotonic() - began),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "last_20_episodes_mean": statistics.fmean(r for _, r in episodes[-20:])
        if episodes
        else None,
        "episodes_by_frame": episodes,
        "small_checkpoint": options.small_checkpoint,
    }


def newest_counts(run_dir: Path) -> int:
    """Policy steps of a run so far; 0 if it is new."""
    log = run_dir / "metrics.jsonl"
    return max((line.policy_step for line in read_jsonl(log)), default=0) if log.exists() else 0


def write_small(run_dir: Path, out: Path) -> None:
    """Writes the newest weights in bfloat16 without moments, in pieces."""
    for old in out.glob("weights_*.pt"):
        old.unlink()
    found = checkpoint.load(LocalStore(run_dir / "checkpoints"))
    assert found is not None
    pieces: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for part in ("world_model", "behavior"):
        for name, value in found.tensors[part].items():
            reduced = value.to(torch.bfloat16)
            if pieces[-1] and size + reduced.nbytes > PIECE_BYTES:
                pieces.append({})
                size = 0
            pieces[-1][f"{part}:{name}"] = reduced
            size += reduced.nbytes
    for index, piece in enumerate(pieces):
        torch.save(piece, out / f"weights_{index}.pt")


def begin_with(weights: Path, config: Config, run_dir: Path) -> None:
    """Makes a new run with the weights that `write_small` wrote; moments and counts are zero."""
    paths = sorted(weights.glob("weights_*.pt"))
    if not paths:
        raise SystemExit(f"--weights-from {weights} holds no weights_*.pt; see --small-checkpoint")
    with open_run(run_dir, config) as run:
        trainer = Trainer(config, environment_spec(config.env), run.checkpoints)
        state = trainer.agent.state()
        for path in paths:
            for key, value in torch.load(path, weights_only=True).items():
                part, name = key.split(":", 1)
                state[part][name].copy_(value)
        trainer.save(policy_step=0)
