"""A whole run through the services: directory, sinks, cluster, supervisor, pictures."""

from __future__ import annotations

import logging
import urllib.parse
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from dreamer_core.agent.agent import NonFiniteLoss
from dreamer_core.agent.device import choose_execution
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.report.pictures import plot_learning_curve
from dreamer_core.report.report import RunLog
from dreamer_core.run.local import Observer, RunResult
from dreamer_core.run.trainer import require_place
from dreamer_core.storage.run_directory import open_run
from dreamer_core.types import Report
from services.logs import logging_to_file
from services.runtime.address import forget_address, node_address, ray_cluster, write_address
from services.runtime.config import ServiceConfig
from services.runtime.crew import ServiceLost
from services.runtime.metrics import PrometheusExporter, advertised
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
            returns.

    Raises:
        RunDirectoryError: see `open_run`.
        PortInUse: something else listens on the metrics port.
        ValueError: the environment or the device is not to be had, or checkpoints would be lost.
        OSError: checkpoints cannot be written.
        NonFiniteLoss: the learner met one; the last checkpoint is good.
        ServiceLost: a service cannot start, because the replay or the checkpoint does not fit, or
            cannot be kept alive; the run is resumable.
    """
    spec = environment_spec(config.env)
    if services.runtime.ray_address is None:
        choose_execution(config.learner)  # a missing one is told before anything is written
    if (config.checkpoint.url or "").startswith("memory:"):
        raise ValueError(
            f"checkpoint.url={config.checkpoint.url} is the memory of one process, and the learner "
            "has its own, so that its checkpoints would end with it; name a path or s3://bucket/run"
        )
    require_place(config, spec)
    with ExitStack() as stack:
        exporter = stack.enter_context(
            PrometheusExporter(services.metrics.port, services.metrics.address)
        )
        paths = stack.enter_context(open_run(run_dir, config))
        log = stack.enter_context(RunLog(run_dir, action_repeat=config.env.action_repeat))
        stack.enter_context(logging_to_file("supervisor", paths.log))
        stack.enter_context(ray_cluster(services, namespace=str(run_dir.absolute())))
        write_address(paths)
        stack.enter_context(_told_to_prometheus(config, services, run_dir, exporter))
        on_start(exporter.url)

        def observed(report: Report, policy_step: int, gradient_step: int) -> None:
            log.write(report, policy_step=policy_step, gradient_step=gradient_step)
            exporter.observe(report)
            exporter.observe(_dropped_reports(log))
            observe(report, policy_step, gradient_step)

        supervisor = Supervisor(config, services, paths, spec, observed)
        stack.callback(supervisor.close)
        stack.callback(forget_address, paths)  # first: who is attached has to go
        schedule = supervisor.schedule
        logger.info("Started at gradient step %d", schedule.gradient_steps)
        logger.info("Metrics at %s", exporter.url)
        try:
            supervisor.run(should_stop)
            has_picture = supervisor.draw_open_loop()
            supervisor.evaluate(should_stop)
        except (NonFiniteLoss, ServiceLost) as error:
            logger.error("Stopped: %s", error)  # noqa: TRY400 (the reason, not the trace)
            raise
        pictures = [paths.open_loop_picture] if has_picture else []
        try:
            pictures.insert(0, plot_learning_curve(run_dir))
        except OSError as error:
            logger.warning("No learning curve was drawn: %s", error)
        logger.info("Stopped at gradient step %d", schedule.gradient_steps)
        return RunResult(
            run_dir=run_dir,
            policy_steps=schedule.policy_steps,
            gradient_steps=schedule.gradient_steps,
            is_finished=schedule.is_done,
            pictures=tuple(pictures),
        )


def _dropped_reports(log: RunLog) -> Report:
    """How many reports the log could not take, which it cannot say itself."""
    values = {"dreamer_dropped_reports_total": float(log.dropped_reports)}
    return Report(service="supervisor", values=values)


def _told_to_prometheus(
    config: Config, services: ServiceConfig, run_dir: Path, exporter: PrometheusExporter
) -> AbstractContextManager[None]:
    """Advertises this run under the path of its directory, from home where it is there."""
    is_everywhere = exporter.address in ("0.0.0.0", "::")  # noqa: S104 (asked for)
    host = node_address() if is_everywhere else exporter.address
    path = run_dir.absolute()
    is_home = path.is_relative_to(Path.home())
    labels = {
        "run": str(path.relative_to(Path.home()) if is_home else path),
        "preset": config.preset,
        "task": config.env.task,
        "seed": str(config.seed),
    }
    name = urllib.parse.quote(str(path), safe="")
    return advertised(services.metrics.targets_dir, name, f"{host}:{exporter.port}", labels)
