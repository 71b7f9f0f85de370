"""Plays a run's checkpoints for their score, in one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dreamer_core.agent.policy import ActionMode, PolicyNetwork
from dreamer_core.config import EPISODE_LIMIT
from dreamer_core.envs.suites import opened
from dreamer_core.errors import naming
from dreamer_core.report.report import EpisodeSummary
from dreamer_core.report.video import Video, save_episode
from dreamer_core.run.restored import checkpoint_weights
from dreamer_core.run.rollout import evaluate_episode
from dreamer_core.storage.named import run_named
from dreamer_core.storage.run_directory import read_config
from dreamer_core.waiting import Patience

logger = logging.getLogger(__name__)


def evaluate_run(
    run_dir: Path,
    *,
    episodes: int,
    mode: ActionMode,
    video: Path | None,
    seed: int,
    step: int | None = None,
    on_video: Callable[[Video], None] | None = None,
    episode_limit: int = EPISODE_LIMIT,
    say: Callable[[str], None] = logger.info,
) -> Iterator[EpisodeSummary]:
    """Yields the episodes as they end.

    Args:
        run_dir: of the run, or `demo`.
        episodes: how many to play.
        mode: how actions are chosen.
        video: file for the first episode; None for none.
        seed: of environment and samples.
        step: gradient steps of the checkpoint; None for the newest that is whole.
        on_video: is told of the video once it is written.
        episode_limit: policy steps after which an episode is cut off.
        say: is told, in words, of an episode that takes long.

    Raises:
        RunDirectoryError: there is no run, or it has no checkpoint yet.
        CheckpointCorrupt: no checkpoint, or not the one asked for, can be read.
        BadInput: there is no checkpoint of this step (names those there are), it is of another
            run, or the video cannot be written.
        StorageFailed: the place of the checkpoints cannot be read.
    """
    run_dir = run_named(run_dir).absolute()
    config = read_config(run_dir)
    video = None if video is None else video.absolute()  # the environment may change directories
    with opened(config.env, seed) as env:
        weights, policy_step = checkpoint_weights(run_dir, config, env.spec, step=step)
        policy = PolicyNetwork(config, env.spec)
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
                on_step=_patiently(say, episode + 1, episode_limit),
                limit=episode_limit,
            )
            if video is not None and has_frames:
                with naming(f"write the video {video}", "Name another file with --video"):
                    fps = env.frames_per_second / env.spec.frames_per_policy_step
                    written = save_episode(video, played.frames, fps)
                if on_video is not None:
                    on_video(written)
            yield played.summary


def _patiently(say: Callable[[str], None], number: int, limit: int) -> Callable[[int], None]:
    """Returns what says, every so often, how far an episode is."""
    patience = Patience(time.monotonic())

    def on_step(num_steps: int) -> None:
        if patience.has_run_out(time.monotonic()):
            say(
                f"episode {number} goes on: {num_steps:,} policy steps so far; it is cut off after "
                f"{limit:,} (--episode-limit)"
            )

    return on_step
