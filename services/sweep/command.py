"""What `dreamer sweep` is asked for; known without PyTorch and Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from services.cluster.cluster_address import require_address
from services.logs import LogFormat
from services.prometheus.config import MetricsConfig


@dataclass(frozen=True, kw_only=True)
class SweepCommand:
    """Trains a preset on many games and seeds, several runs at a time; resumes what it finds."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    games: str | None = None
    """Games, or environments, separated by commas; `all` for the 55 of the paper; the preset's own
    by default."""
    seeds: int = 1
    """Seeds of each game."""
    first_seed: int = 0
    """The smallest of them."""
    sweep_dir: Path | None = None
    """Everything is written here; by default sweeps/PRESET. All nodes must see it under the same
    path."""
    gpus_per_run: float | None = None
    """GPUs that Ray gives each run, 0.25 for four on one; by default 1 if the cluster has any."""
    cpus_per_run: float = 1.0
    """CPUs that Ray gives each run."""
    runs_at_once: int | None = None
    """Runs at the same time; None for as many as there is room for."""
    retries: int = 2
    """How often a run that failed is started again."""
    ray_address: str | None = None
    """Cluster to run on, HOST:PORT or `auto`; None starts one in this process that ends with
    it."""
    wait_for_nodes: bool = False
    """Accept sizes that no node of the cluster has yet, since it grows; wants --gpus-per-run."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log_format: LogFormat = "text"
    """`json`: each line is an object, on a terminal and in the logs of the runs too."""

    def __post_init__(self) -> None:
        if self.ray_address is not None:
            require_address(self.ray_address)
        for name, least in (("seeds", 1), ("first_seed", 0), ("runs_at_once", 1), ("retries", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                option = name.replace("_", "-")
                raise BadInput(f"--{option} {value}: wanted {least} or more")
        if self.cpus_per_run <= 0:
            raise BadInput(f"--cpus-per-run {self.cpus_per_run:g}: wanted more than 0")
        if self.gpus_per_run is not None and not 0 <= self.gpus_per_run <= 1:
            raise BadInput(
                f"--gpus-per-run {self.gpus_per_run:g}: wanted 0 to 1, since a run uses one GPU or "
                "a part of it"
            )
        is_open = self.gpus_per_run is None and self.config.learner.device == "auto"
        if self.wait_for_nodes and is_open:
            raise BadInput(
                "--wait-for-nodes: the nodes that are still to come cannot say whether they have "
                "GPUs, and all runs would train on CPUs if those that are here have none; say "
                "--gpus-per-run, 0 for none"
            )

    @property
    def directory(self) -> Path:
        """Where everything is written."""
        return self.sweep_dir or Path("sweeps") / self.config.preset
