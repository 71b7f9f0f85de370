"""A whole run through the services: directory, sinks, cluster, supervisor, pictures."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import ray

from dreamer_core.config import Config
from dreamer_core.errors import BadInput, naming
from dreamer_core.report.log import RunLog
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.report.report import Report
from dreamer_core.run.front import Front, RunResult, check, open_front
from dreamer_core.run.progress import Observer
from dreamer_core.run.schedule import Schedule
from dreamer_core.run.scoring import last_evaluated
from dreamer_core.storage.run_directory import require_free
from dreamer_core.types import EnvSpec
from services.cluster.leaving import leaving
from services.logs import STARTED, STOPPED, how_it_ended, logging_to_file
from services.prometheus.targets import (
    run_label,
    target_name,
    targets_of_others,
    told_to_prometheus,
)
from services.runtime.actors import RayHost
from services.runtime.address import forget_address, ray_cluster, write_address
from services.runtime.config import ServiceConfig
from services.runtime.crew import Crew
from services.runtime.evaluations import Evaluations
from services.runtime.faults import Faults
from services.runtime.metrics import PrometheusExporter
from services.runtime.placement import await_roles
from services.runtime.saves import Saves
from services.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)


def train(
    config: Config,
    services: ServiceConfig,
    run_dir: Path,
    *,
    observe: Observer,
    on_start: Callable[[str], None] = lambda _url: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Trains through the services, from the start or from where the directory's last run stopped.

    Args:
        config: what to train.
        services: how to run it.
        run_dir: everything is written here.
        observe: is shown every report, besides the logs and Prometheus.
        on_start: is told where metrics are scraped, once Ray is up.
        should_stop: asked several times a second; then a checkpoint is written and the call
            returns. So it does when Ray on this machine, or on the cluster's head, is about to end.

    Raises:
        RunDirectoryError: see `open_run`.
        PortInUse: something else listens on the metrics port.
        BadInput: the environment or the device is not to be had, or checkpoints would be lost.
        Failed: the place of the checkpoints does not answer, or its disk is full.
        NoCluster: Ray cannot be started or joined.
        NonFiniteLoss: the learner met one; the last checkpoint is good.
        ServiceLost: a service cannot start, because the replay or the checkpoint does not fit, or
            cannot be kept alive; the run is resumable.
        Raised: a service met a bug of ours.
    """
    require_lasting_checkpoints(config)
    run_dir = run_dir.absolute()  # an environment may change the working directory
    require_free(run_dir)  # the holder, and not its port, is what a second command has to know
    trained = "beside" if services.runtime.ray_address is None else "elsewhere"
    config, spec = check(config, run_dir, trained=trained)
    where, labels = services.metrics, labels_of(config, run_dir)
    with ExitStack() as stack:
        exporter = stack.enter_context(
            PrometheusExporter(
                where.port,
                where.address,
                info=labels | {"version": importlib.metadata.version("dreamerv2-service")},
                directory=run_dir,
                avoided=targets_of_others(where.targets_dir, target_name(run_dir)),
            )
        )

        def show(report: Report, policy_step: int, gradient_step: int) -> None:
            exporter.observe(report)
            exporter.observe(_dropped_reports(front.log))
            _log_evaluation(report)
            observe(report, policy_step, gradient_step)

        front = stack.enter_context(open_front(config, spec, run_dir, show))
        with naming(f"read {front.paths.log}", "Mend its permissions"):
            was_killed = how_it_ended(front.paths.log) == "killed"
        stack.enter_context(logging_to_file("supervisor", front.paths.log))
        front.tell_news()
        if was_killed:
            logger.warning("The process before was killed; this goes on from its last checkpoint")
        address = services.runtime.ray_address
        logger.info("Joining Ray at %s", address) if address else logger.info("Starting Ray")
        stack.enter_context(ray_cluster(services, namespace=str(run_dir)))
        nodes = stack.enter_context(leaving())
        should_stop = nodes.or_end(should_stop)
        await_roles(services.runtime.await_roles, ray.nodes)
        write_address(front.paths)
        stack.enter_context(told_to_prometheus(where.targets_dir, run_dir, exporter, labels))
        on_start(exporter.url)
        logger.info("Starting the replay server, the learner and the collector")
        supervisor = make_supervisor(config, services, front, spec, lambda: nodes.drained)
        stack.callback(supervisor.close)
        stack.callback(forget_address, front.paths)  # first: who is attached has to go
        logger.info("%s %d", STARTED, supervisor.schedule.gradient_steps)
        logger.info("Metrics at %s", exporter.url)
        supervisor.run(should_stop)
        front.draw(lambda: _draw_open_loop(supervisor), supervisor.schedule)
        supervisor.evaluate(should_stop)
        logger.info("%s %d", STOPPED, supervisor.schedule.gradient_steps)
        return front.result(supervisor.schedule)


def make_supervisor(
    config: Config,
    services: ServiceConfig,
    front: Front,
    spec: EnvSpec,
    drained_nodes: Callable[[], Set[str]],
) -> Supervisor:
    """Starts the services on the Ray cluster that this process is connected to.

    Args:
        config: what to train.
        services: how.
        front: of the run.
        spec: of its environment.
        drained_nodes: returns the ids of nodes that are about to end.

    Raises:
        ServiceLost: one cannot start.
    """
    host = RayHost(
        config,
        front.paths,
        spec,
        is_run_dir_shared=services.runtime.is_run_dir_shared,
        is_lockstep=services.lockstep,
        drained_nodes=drained_nodes,
    )
    crew = Crew(host, services.runtime, is_lockstep=services.lockstep)
    return Supervisor(
        crew=crew,
        schedule=Schedule(config.schedule, steps=config.steps, is_lockstep=services.lockstep),
        saves=Saves(crew, config.checkpoint.interval_s),
        evaluations=Evaluations(
            crew,
            config.evaluation,
            services.evaluators,
            spec.frames_per_policy_step,
            partial(last_evaluated, front.paths.root / METRICS_FILE),
        ),
        faults=Faults(services.runtime.max_fruitless_restarts),
        observe=front.observe,
        frames_per_policy_step=spec.frames_per_policy_step,
    )


def require_lasting_checkpoints(config: Config) -> None:
    """Raises BadInput where the checkpoints would end with the learner's process."""
    if (config.checkpoint.url or "").startswith("memory:"):
        raise BadInput(
            f"checkpoint.url={config.checkpoint.url} is the memory of one process, and the learner "
            "has its own, so that its checkpoints would end with it; name a path or s3://bucket/run"
        )


def _draw_open_loop(supervisor: Supervisor) -> Mapping[str, bytes]:
    """Has the learner draw a batch of its own; nothing while there is too little to draw."""
    crew, gradient_steps = supervisor.crew, supervisor.schedule.gradient_steps
    if gradient_steps == 0:
        return {}
    batch = crew.host.call("replay", "sample", gradient_steps)
    return crew.ask("learner", "draw_open_loop", batch)


def _log_evaluation(report: Report) -> None:
    """Notes in the run's log what an evaluator found, also one that is a guest."""
    found = report.values.get("dreamer_evaluation_return")
    if found is not None:
        logger.info(
            "%s: mean return %.6g over %d episodes, %s, weights of policy step %d",
            "An attached evaluator" if report.labels.get("guest") else "Evaluation",
            found,
            len(report.episodes),
            report.labels["mode"],
            report.values["dreamer_evaluation_policy_steps"],
        )


def _dropped_reports(log: RunLog) -> Report:
    """How many reports the log could not take, which it cannot say itself."""
    values = {"dreamer_dropped_reports_total": float(log.dropped_reports)}
    return Report(service="supervisor", values=values)


def labels_of(config: Config, run_dir: Path) -> dict[str, str]:
    """Returns what tells this run from others in Prometheus."""
    return {
        "run": run_label(run_dir),
        "preset": config.preset,
        "task": config.env.task,
        "seed": str(config.seed),
    }
