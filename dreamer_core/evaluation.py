"""Plays a run's newest checkpoint for its score, in one process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dreamer_core import checkpoint
from dreamer_core.agent import DreamerAgent
from dreamer_core.checkpoint_store import open_store
from dreamer_core.config import LearnerConfig
from dreamer_core.envs import make_env
from dreamer_core.pictures import save_video
from dreamer_core.policy import ActionMode, Policy
from dreamer_core.rollout import evaluate_episode
from dreamer_core.run_directory import RunDirectoryError, RunPaths, read_config
from dreamer_core.trainer import require_same_run
from dreamer_core.types import EpisodeSummary

_FRAMES_PER_SECOND = 60  # of the Atari console


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
    config = dataclasses.replace(config, learner=LearnerConfig(device="cpu"))
    found = checkpoint.load(open_store(config.checkpoint, RunPaths(run_dir).checkpoints))
    if found is None:
        raise RunDirectoryError(
            f"Wanted a checkpoint to play with, but {run_dir} has none yet; they are written "
            f"every {config.checkpoint.interval_s:g} s and when a run stops"
        )
    env = make_env(config.env, seed)
    try:
        require_same_run(found.facts, found.location, config, env.spec)
        agent = DreamerAgent(config, env.spec)
        agent.load_state(found.tensors)
        policy = Policy(config, env.spec)
        policy.load(agent.snapshot())
        for episode in range(episodes):
            has_frames = video is not None and episode == 0
            played = evaluate_episode(
                env,
                policy,
                mode=mode,
                words=(seed, episode),
                policy_step=int(found.facts["policy_step"]),
                has_frames=has_frames,
            )
            if video is not None and has_frames:
                rate = _FRAMES_PER_SECOND / config.env.action_repeat
                save_video(video, np.stack(played.frames), rate)
            yield played.summary
    finally:
        env.close()
