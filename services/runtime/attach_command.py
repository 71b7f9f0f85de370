"""What `dreamer attach` is asked for; known without PyTorch and Ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from dreamer_core.config import EPISODE_LIMIT
from dreamer_core.errors import BadInput, Failed
from dreamer_core.report.metrics import LATEST
from dreamer_core.storage.run_directory import RunPaths, holder, read_config


@dataclass(frozen=True, kw_only=True)
class AttachCommand:
    """Plays episodes with the newest weights of a running run; the results go into that run."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    evaluators: int = 1
    """Processes that play at the same time, on processor time that is left over: on machines for
    evaluators or, where the cluster has none, on this one."""
    episodes: int | None = 5
    """Episodes in all."""
    forever: bool = False
    """Play until the run ends, whatever --episodes says."""
    mode: Literal["greedy", "sample"] = "greedy"
    """The actor's mode, or a sample of it; the latent state is sampled in both."""
    weights: str = LATEST
    """`latest`, always the newest of the learner, or the gradient step of a checkpoint."""
    episode_limit: int = EPISODE_LIMIT
    """Policy steps after which an episode is cut off."""
    video: bool = False
    """Write each episode to videos/ in the run directory."""
    ray_address: str | None = None
    """Cluster of the run, HOST:PORT or `auto`, where its directory cannot be seen; RUN_DIR is
    then its path on the machine of the learner."""

    def __post_init__(self) -> None:
        for name in ("evaluators", "episodes", "episode_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"--{name.replace('_', '-')} {value}: wanted 1 or more")
        if self.weights != LATEST and not self.weights.isdecimal():
            raise BadInput(
                f"--weights {self.weights}: wanted {LATEST}, or the gradient step of a checkpoint"
            )
        if self.ray_address is not None and (self.video or self.weights != LATEST):
            raise BadInput(
                "--video and --weights of a checkpoint want the run directory, but --ray-address "
                "says that it is elsewhere; attach where it is, or drop them"
            )

    @property
    def num_episodes(self) -> int | None:
        """Episodes in all; None until the run ends."""
        return None if self.forever else self.episodes


class NotRunning(Failed):
    """There is no running run to attach to, or it has ended."""


def require_running(run_dir: Path) -> None:
    """Refuses a directory in which nobody trains.

    Raises:
        RunDirectoryError: it holds no run.
        NotRunning: the run does not run.
    """
    read_config(run_dir)
    if holder(RunPaths(run_dir)) is None:
        raise NotRunning(
            f"Wanted a running run to attach to, but nobody trains in {run_dir}. Start it, "
            "or play with its newest checkpoint: dreamer eval"
        )
