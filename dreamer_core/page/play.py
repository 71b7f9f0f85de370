"""An episode that a run plays for the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.envs.suites import opened
from dreamer_core.page.looks import Played
from dreamer_core.run.restored import checkpoint_weights
from dreamer_core.run.rollout import evaluate_episode
from dreamer_core.storage.named import run_named
from dreamer_core.storage.run_directory import read_config

EPISODE_STEPS = 900
"""Policy steps of an episode that are shown: a minute of Atari."""
_SEED = 0


def play(run_dir: Path) -> Played:
    """Plays the begin of a greedy episode with the newest checkpoint of a run.

    Args:
        run_dir: of the run, or `demo`.

    Raises:
        BadInput: there is no checkpoint, or the environment cannot be made.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`.
        EnvironmentCrashed: the simulator failed.
    """
    run_dir = run_named(run_dir).absolute()
    config = read_config(run_dir)
    with opened(config.env, _SEED) as env:
        weights, policy_step = checkpoint_weights(run_dir, config, env.spec)
        policy = PolicyNetwork(config, env.spec)
        policy.load(weights)
        played = evaluate_episode(
            env,
            policy,
            mode="greedy",
            words=(_SEED, 0),
            policy_step=policy_step,
            has_frames=True,
            limit=EPISODE_STEPS,
        )
        return Played(
            frames=np.stack(played.frames),
            fps=env.frames_per_second / env.spec.frames_per_policy_step,
            episode_return=played.summary.episode_return,
            length=played.summary.length,
            is_cut=played.summary.length >= EPISODE_STEPS,
            policy_step=policy_step,
        )
