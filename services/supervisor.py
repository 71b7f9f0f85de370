"""The supervisor: the one place where services become Ray actors and are connected.

                +------------- weights (WeightsSnapshot) <-------------+
                v                                                      |
           Collector --[EpisodeChunk]--> ReplayServer --[Batch]--> Learner
                Evaluator <-- weights           all --[Report]--> observe

It holds object references and passes them on as arguments, so arrays go from process to process
through the object store and never through here. All waiting and all failure handling sit in one
single-threaded `ray.wait` loop. Whatever dies takes one path: let the calls in flight settle,
replace it, ask the others where they stand, go on.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayError, RayTaskError

from dreamer_core.agent import NonFiniteLoss
from dreamer_core.config import Config
from dreamer_core.environment import EnvironmentCrashed, EnvSpec
from dreamer_core.replay import ReplayCounts
from dreamer_core.rollout import env_seed
from dreamer_core.run_directory import RunPaths
from dreamer_core.schedule import CollectOrder, Schedule
from dreamer_core.train_local import Observer, Pulse, next_incarnation
from dreamer_core.types import Report
from services.collector import Collector
from services.config import RuntimeConfig, ServiceConfig
from services.evaluator import Evaluator
from services.learner import Learner
from services.placement import actor_options
from services.replay_server import ReplayServer

logger = logging.getLogger(__name__)

_POLL_S = 0.2  # longest wait before signals and clocks are looked at again
_MAKES_CHUNKS = ("collector", "insert")  # calls between an action and its acknowledgement
_EVALUATOR_INCARNATION = 2**20  # keeps the evaluator's environment seed apart from collectors'


class ServiceLost(RuntimeError):
    """A service cannot start, dies without progress, or failed in a way that restarts won't mend.

    What was acknowledged and the last checkpoint are good: the run is resumable.
    """


@dataclass(frozen=True, slots=True)
class _Call:
    """A remote call under way."""

    service: str
    """Collector, learner, evaluator: which kind of work waits for it."""
    on_done: Callable[[Any], None]
    """Takes the result."""


@contextmanager
def ray_cluster(runtime: RuntimeConfig, namespace: str) -> Generator[None]:
    """Connects to the configured cluster, or runs one that ends with the block."""
    local: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": max(4, os.cpu_count() or 1),
        "object_store_memory": runtime.object_store_bytes,
    }
    ray.init(
        address=runtime.ray_address or "local",
        namespace=namespace,
        logging_level=logging.ERROR,
        **({} if runtime.ray_address else local),
    )
    try:
        yield
    finally:
        ray.shutdown()


class Supervisor:
    """Runs the services until the run is done or asked to stop.

    Args:
        config: of the run.
        services: of the runtime.
        paths: of the run directory, claimed by the caller.
        spec: of the environment.
        observe: is shown every report, in this thread.

    Raises:
        ServiceLost: the run directory's replay or checkpoint does not fit the config.
    """

    def __init__(
        self,
        config: Config,
        services: ServiceConfig,
        paths: RunPaths,
        spec: EnvSpec,
        observe: Observer,
    ) -> None:
        self._config = config
        self._services = services
        self._paths = paths
        self._spec = spec
        self._observe = observe
        self._calls: dict[Any, _Call] = {}
        self._actors: dict[str, Any] = {}
        self._restarts = Counter[str]()
        self._fruitless_restarts = 0
        self._progress_at_restart = (-1, -1)
        self._weights: Any = None
        self._weights_policy_step = 0
        self._saved_s = time.monotonic()
        self._incarnation = -1
        for service in ("replay", "learner"):
            self._actors[service] = self._start(service)
        counts = self._ask("replay", "counts")
        self._incarnation = next_incarnation(counts)
        self._actors["collector"] = self._start("collector")
        self.schedule = Schedule(
            config.schedule,
            steps=config.steps,
            policy_steps=counts.policy_steps,
            gradient_steps=self._ask("learner", "gradient_step"),
            is_lockstep=services.lockstep,
        )
        self._evaluated_at = counts.policy_steps
        self._pulse = Pulse(self.schedule, counts, config.env.action_repeat)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Trains until the configured number of policy steps, or until asked to stop.

        Calls in flight are let finish at the end, so that everything collected is stored.

        Raises:
            NonFiniteLoss: the learner met one; nothing was saved after it.
            ServiceLost: a service cannot be kept alive.
        """
        while not self.schedule.is_done and not should_stop():
            self._issue()
            self._wait(_POLL_S)
            if self._pulse.is_due():
                self._beat()
        self._drop_evaluation()
        self._settle()
        self._beat()

    def save(self) -> None:
        """Writes a checkpoint of the present state."""
        self._ask("replay", "flush")
        self._report(self._ask("learner", "save", self.schedule.policy_steps))
        self._saved_s = time.monotonic()

    def evaluate(self, should_stop: Callable[[], bool]) -> None:
        """Evaluates the weights of a run that is done, unless they were or evaluation is off.

        To be called once they are saved: a stop gives the evaluation up.
        """
        is_new = self.schedule.policy_steps > self._evaluated_at
        is_wanted = self._services.evaluator.interval_policy_steps is not None
        if not (self.schedule.is_done and is_new and is_wanted):
            return
        self._publish()
        self._settle()
        self._evaluate()
        while self._calls and not should_stop():
            self._wait(_POLL_S)
            if self._pulse.is_due():
                self._beat()
        self._drop_evaluation()

    def draw_open_loop(self) -> bool:
        """Writes the open-loop picture; False while there is too little to draw."""
        if self.schedule.gradient_steps == 0:
            return False
        batch = self._actors["replay"].sample.remote(self.schedule.gradient_steps)
        path = self._paths.open_loop_picture.absolute()
        return self._ask("learner", "save_open_loop", batch, path)

    def close(self) -> None:
        """Closes the replay and ends the actors; a dead one is no matter."""
        try:
            self._ask("replay", "close")
        except ServiceLost as error:
            logger.warning("The replay is not closed; its next start will mend it: %s", error)
        for actor in self._actors.values():
            ray.kill(actor)

    # --- Issuing ------------------------------------------------------------------------------

    def _issue(self) -> None:
        """Issues every call that the schedule allows; one at a time in lockstep."""
        limit = 1 if self._services.lockstep else self._services.runtime.learner_calls_in_flight
        while self._in_flight("learner") < limit and self.schedule.may_train() and self._is_free():
            self._train()
        if self.schedule.should_publish() and not self._in_flight("publish") and self._is_free():
            self._publish()
        is_collecting = self._in_flight("collector") or self._in_flight("insert")
        if not is_collecting and self._is_free():
            order = self.schedule.next_collect()
            if order is not None and (order.is_random or self._weights is not None):
                self._collect(order)
        self._evaluate_if_due()
        interval_s = self._config.schedule.checkpoint_interval_s
        if time.monotonic() - self._saved_s > interval_s and not self._in_flight("save"):
            self._save_beside()

    def _is_free(self) -> bool:
        """Whether a call that training depends on may be issued now."""
        busy = any(call.service != "evaluator" for call in self._calls.values())
        return not (self._services.lockstep and busy)

    def _in_flight(self, service: str) -> int:
        return sum(call.service == service for call in self._calls.values())

    def _train(self) -> None:
        schedule = self.schedule
        step = schedule.gradient_steps_issued
        schedule.gradient_steps_issued += 1
        batch = self._actors["replay"].sample.remote(step)
        done = self._actors["learner"].train.remote(batch, step, schedule.policy_steps)

        def on_done(report: Report | None) -> None:
            schedule.gradient_steps += 1
            if report is not None:
                self._report(report)

        self._calls[done] = _Call("learner", on_done)

    def _publish(self) -> None:
        policy_step = self.schedule.policy_steps
        weights, version = self._actors["learner"].snapshot.options(num_returns=2).remote()

        def on_done(done_version: int) -> None:
            self._weights, self._weights_policy_step = weights, policy_step
            self.schedule.published_version = done_version

        self._calls[version] = _Call("publish", on_done)

    def _collect(self, order: CollectOrder) -> None:
        schedule = self.schedule
        schedule.policy_steps_issued += order.num_policy_steps
        collect = self._actors["collector"].collect.options(num_returns=2)
        chunks, done = collect.remote(self._weights, order, schedule.policy_steps)
        self._calls[done] = _Call("collector", lambda report: self._insert(chunks, report))

    def _insert(self, chunks: Any, collected: Report) -> None:
        """Hands chunks on, once they exist.

        An actor takes its calls in order, so one whose argument is still being made would hold up
        the sampling of every later batch.
        """
        acknowledged = self._actors["replay"].insert.remote(chunks)

        def on_done(counts: ReplayCounts) -> None:
            self.schedule.policy_steps = counts.policy_steps
            self._pulse.counts, self._pulse.collector_values = counts, collected.values
            if collected.episodes:
                self._report(collected)

        self._calls[acknowledged] = _Call("insert", on_done)

    def _evaluate_if_due(self) -> None:
        interval = self._services.evaluator.interval_policy_steps
        is_due = interval and self.schedule.policy_steps - self._evaluated_at >= interval
        if is_due and self._weights is not None and not self._in_flight("evaluator"):
            self._evaluate()

    def _evaluate(self) -> None:
        if "evaluator" not in self._actors:
            self._actors["evaluator"] = self._start("evaluator")
        config = self._services.evaluator
        self._evaluated_at = self.schedule.policy_steps
        done = self._actors["evaluator"].evaluate.remote(
            self._weights, config.episodes, config.mode, self._weights_policy_step
        )
        self._calls[done] = _Call("evaluator", self._report)

    def _drop_evaluation(self) -> None:
        """Gives up an evaluation under way: nothing waits for the end of its episode."""
        if self._in_flight("evaluator"):
            self._calls = {k: c for k, c in self._calls.items() if c.service != "evaluator"}
            ray.kill(self._actors.pop("evaluator"))

    def _save_beside(self) -> None:
        """Lets the learner write a checkpoint between two gradient steps."""

        def on_done(report: Report) -> None:
            self._saved_s = time.monotonic()
            self._report(report)

        flushed = self._actors["replay"].flush.remote()
        self._calls[flushed] = _Call("flush", lambda _: None)
        saved = self._actors["learner"].save.remote(self.schedule.policy_steps)
        self._calls[saved] = _Call("save", on_done)

    # --- Waiting ------------------------------------------------------------------------------

    def _wait(self, timeout_s: float) -> None:
        """Takes what finished, after at most `timeout_s`."""
        if not self._calls:
            time.sleep(timeout_s)
            return
        oldest: dict[str, Any] = {}  # of each service, so that its reports keep their order
        for reference, call in self._calls.items():
            oldest.setdefault(call.service, reference)
        ready, _ = ray.wait(list(oldest.values()), num_returns=1, timeout=timeout_s)
        for reference in ready:
            call = self._calls.pop(reference)
            try:
                call.on_done(self._get(reference))
            except (RayActorError, ObjectLostError) as error:  # itself, or what it was handed
                self._recover(call.service, error)
            except RayTaskError as error:
                self._raise_unless_crashed(call.service, error)
                ray.kill(self._actors[call.service])
                self._recover(call.service, error)
            except RayError as error:
                raise ServiceLost(f"The {call.service} failed: {_reason(error)}") from error

    def _settle(self) -> None:
        """Waits until no call is in flight."""
        while self._calls:
            self._wait(_POLL_S)

    def _get(self, reference: Any) -> Any:
        return ray.get(reference, timeout=self._services.runtime.call_timeout_s)

    def _ask(self, service: str, method: str, *arguments: Any) -> Any:
        """Calls a service and waits for its answer.

        Raises:
            ServiceLost: it could not start, died, failed or kept silent; says why.
        """
        try:
            return self._get(getattr(self._actors[service], method).remote(*arguments))
        except RayError as error:
            did = "could not start" if _failed_to_start(error) else f"did not answer {method}"
            raise ServiceLost(f"The {service} {did}: {_reason(error)}") from error

    # --- Failure ------------------------------------------------------------------------------

    def _raise_unless_crashed(self, service: str, error: RayTaskError) -> None:
        """Stops the run on any error of a service's own but a crashed simulator."""
        cause = error.cause
        if isinstance(cause, NonFiniteLoss):
            raise cause
        if not isinstance(cause, EnvironmentCrashed):
            raise ServiceLost(
                f"The work of the {service} failed: {_reason(error)}. Mend it and start the same "
                "command again: the run resumes from its directory"
            ) from error

    def _recover(self, service: str, error: RayError) -> None:
        """Replaces whatever is dead and takes the counts from those who know them."""
        self._drop_evaluation()
        is_chunk_lost = service in _MAKES_CHUNKS
        while True:
            logger.error("A service was lost: %s", _reason(error))
            self._count_fruitless(error)
            is_chunk_lost |= self._finish_calls()
            try:
                self._replace_dead(is_chunk_lost=is_chunk_lost)
            except ServiceLost as lost:
                if not isinstance(lost.__cause__, RayActorError) or _failed_to_start(
                    lost.__cause__
                ):
                    raise
                error = lost.__cause__  # one more died meanwhile
            else:
                return

    def _replace_dead(self, *, is_chunk_lost: bool) -> None:
        dead = {name for name in self._actors if not self._is_alive(name)}
        if is_chunk_lost:
            dead.add("collector")  # going on would leave a gap in its episode
        for name in sorted(dead):
            self._replace(name)
        counts = self._ask("replay", "counts")
        gradient_steps = self._ask("learner", "gradient_step")
        schedule, self._pulse.counts = self.schedule, counts
        schedule.policy_steps = schedule.policy_steps_issued = counts.policy_steps
        schedule.gradient_steps = schedule.gradient_steps_issued = gradient_steps

    def _finish_calls(self) -> bool:
        """Takes what still succeeds of the calls in flight; tells whether a chunk was lost."""
        is_chunk_lost = False
        while self._calls:
            reference, call = next(iter(self._calls.items()))
            del self._calls[reference]
            try:
                call.on_done(self._get(reference))
            except (RayActorError, ObjectLostError, GetTimeoutError):
                is_chunk_lost |= call.service in _MAKES_CHUNKS
            except RayTaskError as error:
                self._raise_unless_crashed(call.service, error)
                is_chunk_lost = True
        return is_chunk_lost

    def _count_fruitless(self, error: RayError) -> None:
        progress = (self.schedule.policy_steps, self.schedule.gradient_steps)
        is_fruitless = progress == self._progress_at_restart
        self._progress_at_restart = progress
        self._fruitless_restarts = self._fruitless_restarts + 1 if is_fruitless else 0
        if self._fruitless_restarts >= self._services.runtime.max_fruitless_restarts:
            raise ServiceLost(
                f"A service died {self._fruitless_restarts + 1} times at policy step {progress[0]} "
                f"without progress; the last reason was: {_reason(error)}. Mend it and start "
                "the same command again: the run resumes from its directory"
            ) from error

    def _is_alive(self, service: str) -> bool:
        try:
            self._get(self._actors[service].__ray_ready__.remote())
        except (RayActorError, GetTimeoutError):
            return False
        return True

    def _replace(self, service: str) -> None:
        ray.kill(self._actors[service])
        self._restarts[service] += 1
        if service == "evaluator":
            del self._actors["evaluator"]  # the next evaluation starts it
        else:
            self._incarnation += service == "collector"
            self._actors[service] = self._start(service)
        if service == "learner":
            self.schedule.published_version = None
        logger.info("Replaced the %s", service)
        self._report(
            Report(
                service="supervisor",
                values={"dreamer_restarts_total": self._restarts[service]},
                labels={"service": service},
            )
        )

    def _start(self, service: str) -> Any:
        """Makes the actor; names and paths go in, never references to objects."""
        config, spec, paths = self._config, self._spec, self._paths
        options = actor_options(
            service,
            ray.nodes(),
            home=ray.get_runtime_context().get_node_id(),
            is_run_dir_shared=self._services.runtime.is_run_dir_shared,
            device=config.learner.device,
        )
        match service:
            case "replay":
                make = ray.remote(ReplayServer).options(**options)
                return make.remote(config, spec, paths.replay.absolute())
            case "learner":
                make = ray.remote(Learner).options(**options)
                return make.remote(config, spec, paths.checkpoints.absolute())
            case "collector":
                return ray.remote(Collector).options(**options).remote(config, self._incarnation)
            case _:
                seed = env_seed(config.seed, _EVALUATOR_INCARNATION)
                return ray.remote(Evaluator).options(**options).remote(config, seed)

    # --- Reporting ----------------------------------------------------------------------------

    def _beat(self) -> None:
        for report in self._pulse.reports(checkpoint_age_s=time.monotonic() - self._saved_s):
            self._report(report)

    def _report(self, report: Report) -> None:
        self._observe(report, self.schedule.policy_steps, self.schedule.gradient_steps)


def _reason(error: RayError) -> str:
    """The exception itself, from Ray's many lines; of a death the first sentence is enough."""
    if isinstance(error, ObjectLostError):
        return "what it was handed was lost with its node"  # Ray's advice is of no use here
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    has_died = isinstance(error, RayActorError) and not _failed_to_start(error)
    return lines[-1].split(". ")[0] if has_died else lines[-1]


def _failed_to_start(error: RayError) -> bool:
    return isinstance(error, RayActorError) and error.actor_init_failed
