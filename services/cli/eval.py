"""`dreamer eval`: plays with a run's newest checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from dreamer_core.errors import BadInput
from dreamer_core.run.evaluation import evaluate_run


@dataclass(frozen=True, kw_only=True)
class EvalCommand:
    """Plays episodes with a run's newest checkpoint and prints their returns."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    episodes: int = 5
    """Episodes to play."""
    mode: Literal["greedy", "sample"] = "greedy"
    """The actor's mode, or a sample of it; the latent state is sampled in both."""
    video: Path | None = None
    """Writes the first episode to this .mp4 or .gif."""
    seed: int = 0
    """Of environment and samples."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise BadInput(f"--episodes {self.episodes}: wanted 1 or more")
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: wanted 0 or more")
        if self.video is not None and self.video.suffix not in (".mp4", ".gif"):
            raise BadInput(f"--video {self.video}: wanted a name that ends in .mp4 or .gif")


def run(arguments: list[str]) -> int:
    """Plays, and returns the exit code."""
    command = tyro.cli(EvalCommand, args=arguments, prog="dreamer eval")
    console = Console()
    scores: list[float] = []
    for evaluation in evaluate_run(
        command.run_dir,
        episodes=command.episodes,
        mode=command.mode,
        video=command.video,
        seed=command.seed,
    ):
        scores.append(evaluation.episode_return)
        console.print(
            f"episode {len(scores)}: return {evaluation.episode_return:g}, "
            f"{evaluation.length} policy steps"
        )
    console.print(
        f"mean return {sum(scores) / len(scores):g} over {len(scores)} episodes, "
        f"mode {command.mode}"
    )
    if command.video is not None:
        console.print(f"video {command.video}", soft_wrap=True)
    return 0
