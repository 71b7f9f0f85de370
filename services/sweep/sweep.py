"""`dreamer sweep`: many runs on a Ray cluster, as many at once as it has room for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.metadata import version

import ray

from services.cluster.connection import connected
from services.cluster.leaving import leaving
from services.logs import logging_to_file
from services.prometheus.targets import (
    run_label,
    target_name,
    targets_of_others,
    told_to_prometheus,
)
from services.sweep.command import SweepCommand
from services.sweep.directory import open_sweep
from services.sweep.games import choose_games
from services.sweep.metrics import SweepExporter
from services.sweep.plan import SweepPlan
from services.sweep.progress import SweepProgress
from services.sweep.resources import choose_gpus, require_room, with_device, with_processes
from services.sweep.runs import RunLimits, SweepRuns

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 80_000_000  # the least that Ray takes; a sweep hands nothing around


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
        NoCluster: there is no cluster at the address, none can be started here, or it was lost.
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
        nodes = stack.enter_context(leaving())
        logger.info("Metrics at %s", exporter.url)
        told = told_to_prometheus(where.targets_dir, root, exporter, labels)
        with suppress(_RunsFailed), told:
            runs.run(nodes.or_end(should_stop), lambda: nodes.drained)
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
