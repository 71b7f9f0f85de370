"""`dreamer sweep`: many runs on a Ray cluster, as many at once as it has room for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import ray
import tyro

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from services.cluster.cluster_address import require_address
from services.cluster.connection import connected
from services.cluster.leaving import leaving
from services.logs import LogFormat, logging_to_file
from services.prometheus.config import MetricsConfig
from services.prometheus.targets import (
    run_label,
    target_name,
    targets_of_others,
    told_to_prometheus,
)
from services.sweep.directory import open_sweep
from services.sweep.games import choose_games
from services.sweep.metrics import SweepExporter
from services.sweep.place import choose_gpus, require_room, with_device, with_processes
from services.sweep.plan import SweepPlan
from services.sweep.progress import SweepProgress
from services.sweep.runs import RunLimits, SweepRuns

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 80_000_000  # the least that Ray takes; a sweep hands nothing around


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


def sweep(
    command: SweepCommand,
    *,
    observe: Callable[[SweepProgress], None],
    on_start: Callable[[str], None] = lambda _url: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepProgress:
    """Trains all runs to their end, or until a stop is asked for.

    Args:
        command: what to train, and on what.
        observe: is shown several times a second where the sweep stands.
        on_start: is told where metrics are scraped, once Ray is up, which takes over signals when
            it starts.
        should_stop: asked several times a second; then every run writes a checkpoint and ends.

    Raises:
        RunDirectoryError: see `open_sweep`.
        BadInput: a game is not known, no node of the cluster is large enough, or metrics cannot be
            served where they were to be.
        ClusterUnreachable: there is no cluster at the address, or it was lost.
    """
    plan = SweepPlan(
        config=command.config,
        games=choose_games(command.games, command.config),
        seeds=tuple(range(command.first_seed, command.first_seed + command.seeds)),
    )
    root = command.directory.absolute()
    cluster = connected(
        command.ray_address, namespace=str(root), object_store_bytes=_OBJECT_STORE_BYTES
    )
    where = command.metrics
    labels = {"run": run_label(root), "preset": plan.config.preset}
    with ExitStack() as stack:
        directory = stack.enter_context(open_sweep(root, plan))
        exporter = stack.enter_context(
            SweepExporter(
                where.port,
                where.address,
                info=labels | {"version": version("dreamerv2-service")},
                directory=root,
                avoided=targets_of_others(where.targets_dir, target_name(root)),
            )
        )
        stack.enter_context(logging_to_file("sweep", directory.log))
        address = command.ray_address
        logger.info("Joining Ray at %s", address) if address else logger.info("Starting Ray")
        directory.note({})  # nothing runs yet, whatever a command that was killed had written
        stack.enter_context(cluster)
        on_start(exporter.url)
        plan, limits = _placed(command, plan)
        runs = SweepRuns(plan, directory, limits, _both(exporter.observe, observe))
        should_end = stack.enter_context(leaving(should_stop))
        logger.info("Metrics at %s", exporter.url)
        told = told_to_prometheus(
            where.targets_dir, root, exporter, labels, ray.util.get_node_ip_address
        )
        with suppress(_RunsFailed), told:
            runs.run(should_end)
            if runs.progress.is_over and runs.progress.where("failed"):
                raise _RunsFailed
        return runs.progress


class _RunsFailed(Exception):
    """Has Prometheus told that a sweep is over of which runs have failed for good."""


def _both(
    one: Callable[[SweepProgress], None], other: Callable[[SweepProgress], None]
) -> Callable[[SweepProgress], None]:
    def observe(progress: SweepProgress) -> None:
        one(progress)
        other(progress)

    return observe


def _placed(command: SweepCommand, plan: SweepPlan) -> tuple[SweepPlan, RunLimits]:
    """Returns the plan for what the nodes of the cluster have, and what each run takes of one."""
    num_gpus = choose_gpus(command.gpus_per_run, plan.config.learner.device, ray.nodes())
    if not command.wait_for_nodes:
        require_room(ray.nodes(), num_cpus=command.cpus_per_run, num_gpus=num_gpus)
    config = with_processes(with_device(plan.config, num_gpus), command.cpus_per_run)
    limits = RunLimits(
        num_cpus=command.cpus_per_run,
        num_gpus=num_gpus,
        at_once=command.runs_at_once,
        retries=command.retries,
        is_growing=command.wait_for_nodes,
    )
    return replace(plan, config=config), limits
