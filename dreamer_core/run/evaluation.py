"""Plays a run's checkpoints for their score, in one process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import ActionMode, Policy
from dreamer_core.config import Config, LearnerConfig
from dreamer_core.envs.suites import make_env
from dreamer_core.report.video import save_episode
from dreamer_core.run.rollout import evaluate_episode
from dreamer_core.run.trainer import require_same_run
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths, read_config
from dreamer_core.storage.store import open_store
from dreamer_core.types import EnvSpec, EpisodeSummary, WeightsSnapshot


def checkpoint_weights(
    run_dir: Path, config: Config, spec: EnvSpec, *, step: int | None = None
) -> tuple[WeightsSnapshot, int]:
    """Returns the policy's weights in a checkpoint, and the run's policy steps behind them.

    Args:
        run_dir: of the run.
        config: of the run.
        spec: of its environment.
        step: gradient steps of the checkpoint; None for the newest.

    Raises:
        RunDirectoryError: the run has no checkpoint yet.
        FileNotFoundError: the step asked for was never saved, or was deleted.
        CheckpointCorrupt: no checkpoint can be read.
        ValueError: the checkpoint is of another run.
        OSError: the place of the checkpoints cannot be read.
    """
    config = dataclasses.replace(config, learner=LearnerConfig(device="cpu"))
    store = open_store(config.checkpoint, RunPaths(run_dir).checkpoints)
    found = checkpoint.load(store, step)
    if found is None:
        raise RunDirectoryError(
            f"Wanted a checkpoint to play with, but {run_dir} has none yet; they are written "
            f"every {config.checkpoint.interval_s:g} s and when a run stops"
        )
    require_same_run(found.facts, found.location, config, spec)
    agent = DreamerAgent(config, spec)
    agent.load_state(found.tensors)
    return agent.snapshot(), int(found.facts["policy_step"])


def evaluate_run(
    run_dir: Path, *, episodes: int, mode: ActionMode, video: Path | None, seed: int
) -> Iterator[EpisodeSummary]:
    """Yields the episodes as they end.

    Args:
        run_dir: of the run.
        episodes: how many to play.
        mode: how actions are chosen.
        video: file for the first episode; None for none.
        seed: of environment and samples.

    Raises:
        RunDirectoryError: there is no run, or it has no checkpoint yet.
        CheckpointCorrupt: no checkpoint can be read.
        ValueError: the checkpoint is of another run.
        OSError: the place of the checkpoints cannot be read.
    """
    config = read_config(run_dir)
    env = make_env(config.env, seed)
    try:
        weights, policy_step = checkpoint_weights(run_dir, config, env.spec)
        policy = Policy(config, env.spec)
        policy.load(weights)
        for episode in range(episodes):
            has_frames = video is not None and episode == 0
            played = evaluate_episode(
                env,
                policy,
                mode=mode,
                words=(seed, episode),
                policy_step=policy_step,
                has_frames=has_frames,
            )
            if video is not None and has_frames:
                save_episode(video, played.frames, config.env.action_repeat)
            yield played.summary
    finally:
        env.close()
