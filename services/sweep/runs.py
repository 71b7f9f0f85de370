"""The runs of a sweep, handed to Ray, watched, and tried again.

Each run is an actor that asks Ray for its share of a node and starts one process there. All waiting
and all failure handling are in `SweepRuns.run`, one loop, as in the supervisor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from dreamer_core.errors import BadInput
from services.cluster.connection import NODE_ID_LABEL
from services.cluster.ray_errors import reason
from services.cluster.remote import SWEEP_STARTED
from services.logs import is_json
from services.sweep.directory import Score, SweepDirectory, read_score
from services.sweep.plan import RunKey, SweepPlan, local_command
from services.sweep.progress import NOTED, ProgressReader, RunState, SweepProgress, done
from services.sweep.resources import NodeRecord
from services.sweep.worker import STOP_PATIENCE_S, Node, Outcome, RunOrder, SweepWorker

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_LOOK_INTERVAL_S = 2.0
_FRUITLESS_LOSSES = 3
_STOP_MARGIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What each run takes of a node, how many run at once, and how often one is tried."""

    num_cpus: float
    num_gpus: float
    at_once: int | None
    """None: as many as there is room for."""
    retries: int
    """How often a run that failed is started again."""
    is_growing: bool
    """The cluster may get nodes that it does not have yet."""


@dataclass(slots=True)
class _Attempt:
    """A run that waits for room on a node, or has it."""

    worker: Any
    outcome: Any
    """Reference of what `SweepWorker.run` will return."""
    answer: Any
    """Reference of what `SweepWorker.node` will return; None once it has."""
    avoided: tuple[str, ...]
    """Ids of the nodes on which it does not start."""
    node: Node | None = None
    """Where it is; None until there is room."""
    is_leaving: bool = False
    """Its node is about to end, and it was told to save."""


class SweepRuns:
    """All runs, and which of them are handed to Ray.

    Args:
        plan: the runs.
        directory: of the sweep, claimed by the caller.
        limits: of each run and of all.
        observe: is shown several times a second where the sweep stands.
    """

    def __init__(
        self,
        plan: SweepPlan,
        directory: SweepDirectory,
        limits: RunLimits,
        observe: Callable[[SweepProgress], None],
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._limits = limits
        self._observe = observe
        self._attempts: dict[RunKey, _Attempt] = {}
        self._losses: dict[RunKey, tuple[int, int]] = {}  # policy step at the last, how many
        self._drained: Set[str] = frozenset()
        self._nodes = NodeRecord(num_cpus=limits.num_cpus, num_gpus=limits.num_gpus)
        self._looked_s = 0.0
        self._noted: Mapping[str, Mapping[str, Any]] = {}
        self._readers = {key: ProgressReader(directory.run_dir(key)) for key in plan.keys}
        finished = directory.finished()
        self._states = {key: self._first_state(key, finished.get(key)) for key in plan.keys}
        self._sweep_id = directory.sweep_id()

    @property
    def progress(self) -> SweepProgress:
        """Where the sweep stands."""
        return SweepProgress(tuple(self._states.values()))

    def run(
        self,
        should_stop: Callable[[], bool],
        drained_nodes: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """Trains until every run is done or has failed for good, or until asked to stop.

        Args:
            should_stop: asked several times a second.
            drained_nodes: returns the ids of nodes that are about to end.
        """
        logger.info("%s%s", SWEEP_STARTED, self.progress)
        try:
            while not (self.progress.is_over or should_stop()):
                self._submit()
                self._wait()
                self._look()
                self._leave(drained_nodes())
                self._show()
        finally:
            self._stop_all()
        self._show()
        logger.info("Ended: %s", self.progress)

    def _show(self) -> None:
        """Shows where the sweep stands, and writes it for other commands where it has changed."""
        self._observe(self.progress)
        told = {
            key.name: {name: getattr(state, name) for name in NOTED}
            for key, state in self._states.items()
        }
        if told != self._noted:
            self._noted = told
            self._directory.note(told)

    def _first_state(self, key: RunKey, score: Score | None) -> RunState:
        steps = self._plan.config.steps
        state = RunState(key=key, total_policy_steps=steps)
        if score is not None and score.steps >= steps:
            return done(state, score)
        return replace(self._readers[key].read(state), policy_steps_per_second=None)

    def _submit(self) -> None:
        """Hands runs to Ray, which starts each as soon as a node has room for it."""
        for state in self.progress.where("waiting"):
            limit = self._limits.at_once
            if limit is not None and len(self._attempts) >= limit:
                return
            if state.key not in self._attempts:
                self._begin(state.key)

    def _begin(self, key: RunKey) -> None:
        options: dict[str, Any] = {
            "num_cpus": self._limits.num_cpus,
            "num_gpus": self._limits.num_gpus,
            "max_concurrency": 2,  # `stop` is answered beside `run`
        }
        avoided = self._nodes.avoided_by(key, self._lasting_nodes())
        if avoided:
            options["label_selector"] = {NODE_ID_LABEL: f"!in({', '.join(avoided)})"}
        run_dir = self._directory.run_dir(key)
        log_format = ("--log-format", "json") if is_json() else ()
        order = RunOrder(
            arguments=(*local_command(self._plan.config_of(key), run_dir), *log_format),
            run_dir=run_dir,
            log=self._directory.run_log(key),
            marker=self._directory.marker,
            sweep_id=self._sweep_id,
            cwd=Path.cwd(),
        )
        worker: Any = ray.remote(SweepWorker).options(**options).remote()
        answer = worker.node.remote()
        self._attempts[key] = _Attempt(worker, worker.run.remote(order), answer, avoided)

    def _wait(self) -> None:
        """Takes what Ray has to say, if it says something soon."""
        keys: dict[Any, RunKey] = {}
        for key, attempt in self._attempts.items():
            if attempt.answer is not None:
                keys[attempt.answer] = key  # before its outcome, which is told with the node
            keys[attempt.outcome] = key
        if not keys:
            time.sleep(_POLL_S)
            return
        ready, _ = ray.wait(list(keys), num_returns=1, timeout=_POLL_S)
        for reference in ready:
            attempt = self._attempts[keys[reference]]
            if reference == attempt.answer:
                self._take_node(keys[reference], attempt)
            else:
                self._take_outcome(keys[reference], attempt)

    def _take_node(self, key: RunKey, attempt: _Attempt) -> None:
        answer, attempt.answer = attempt.answer, None
        with suppress(RayError):  # the worker is gone, which its outcome tells
            node: Node = ray.get(answer)
            attempt.node = node
            self._readers[key].begin()
            self._set(key, phase="running", node=node.name)
            logger.info("%s: started on %s", key, node.name)

    def _take_outcome(self, key: RunKey, attempt: _Attempt) -> None:
        try:
            outcome: Outcome = ray.get(attempt.outcome)
        except RayTaskError as error:
            outcome = Outcome("failed", reason(error))
        except RayError as error:
            outcome = Outcome("interrupted", f"its worker or node was lost: {reason(error)}")
        self._release(key)
        self._states[key] = self._readers[key].read(self._states[key])
        self._set(key, phase="waiting", policy_steps_per_second=None)
        if outcome.ending == "done":
            self._finish(key, attempt.node)
        elif outcome.ending == "unseen":
            self._avoid(attempt.node, outcome.reason)
        elif outcome.ending == "interrupted":
            self._count_loss(key, outcome.reason)
        elif outcome.ending == "failed":
            self._count_failure(key, outcome.reason)
            if (node := attempt.node) is not None:
                self._nodes.add_failure(key, node.node_id, node.name, self._lasting_nodes())

    def _finish(self, key: RunKey, node: Node | None) -> None:
        if node is not None:
            self._nodes.add_done(node.node_id)
        try:
            config, how = self._plan.config, self._plan.config.evaluation
            mode = None if how.interval_frames is None else how.mode
            score = read_score(self._directory.run_dir(key), key, config.steps, mode)
            self._directory.record(score)
        except (BadInput, OSError) as error:
            self._count_failure(key, f"it was trained, but its score was not written: {error}")
            return
        self._states[key] = done(self._states[key], score)
        logger.info("%s: done, %s", key, describe(score))

    def _count_failure(self, key: RunKey, why: str, *, is_final: bool = False) -> None:
        """A run that failed waits for its next try, if it has one."""
        failures = self._states[key].failures + 1
        is_final = is_final or failures > self._limits.retries
        self._set(key, phase="failed" if is_final else "waiting", failures=failures, reason=why)
        if is_final:
            logger.error("%s: failed for good: %s", key, why)
        else:
            tries = self._limits.retries + 1
            logger.warning("%s: failed, try %d of %d: %s", key, failures, tries, why)

    def _count_loss(self, key: RunKey, why: str) -> None:
        """A run that lost its node did nothing wrong, but must not go on so for ever."""
        policy_step = self._states[key].policy_step
        last_step, losses = self._losses.get(key, (policy_step, 0))
        losses = losses + 1 if policy_step <= last_step else 1
        self._losses[key] = (policy_step, losses)
        if losses > _FRUITLESS_LOSSES:
            why = f"it was lost {losses} times without a policy step between them; last, {why}"
            self._count_failure(key, why, is_final=True)
        else:
            logger.warning("%s: %s; it will be resumed", key, why)

    def _avoid(self, node: Node | None, why: str) -> None:
        """Starts nothing more on a node that does not see the directory."""
        if node is not None and self._nodes.add_blind(node.node_id):
            logger.warning("%s", why)
        for other, attempt in list(self._attempts.items()):
            if attempt.node is None:
                self._release(other)  # Ray may have promised it that node
        if self._limits.is_growing or self._nodes.has_room(ray.nodes()):
            return
        for state in self.progress.where("waiting"):
            self._count_failure(state.key, why, is_final=True)

    def _stop_all(self) -> None:
        """Has every run write a checkpoint and end; kills what does not, whatever happens."""
        try:
            for key, attempt in list(self._attempts.items()):
                if attempt.node is None:
                    self._release(key)
                else:
                    attempt.worker.stop.remote()
            give_up_s = time.monotonic() + STOP_PATIENCE_S + _STOP_MARGIN_S
            while self._attempts and time.monotonic() < give_up_s:
                self._wait()
                self._show()
        finally:
            for key in list(self._attempts):
                logger.error("%s: did not end; its worker is killed", key)
                self._set(key, phase="waiting", policy_steps_per_second=None)
                self._release(key)

    def _look(self) -> None:
        """Reads how far the running runs are and what nodes there are, now and then."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_INTERVAL_S:
            return
        self._looked_s = now_s
        for state in self.progress.where("running"):
            self._states[state.key] = self._readers[state.key].read(state)
        nodes = self._lasting_nodes()
        for key, attempt in list(self._attempts.items()):
            if attempt.node is None and attempt.avoided != self._nodes.avoided_by(key, nodes):
                self._release(key)  # it waits for a node that went wrong, or avoids all there are

    def _leave(self, drained: Set[str]) -> None:
        """Has runs on nodes that are about to end save and stop; they are resumed elsewhere."""
        self._drained = drained
        for key, attempt in self._attempts.items():
            node = attempt.node
            if node is not None and node.node_id in drained and not attempt.is_leaving:
                attempt.is_leaving = True
                has_room = self._nodes.has_room(self._lasting_nodes())
                then = "goes on elsewhere" if has_room else "waits for a node that is large enough"
                logger.info("%s: %s is about to end; it saves, and %s", key, node.name, then)
                attempt.worker.stop.remote()

    def _lasting_nodes(self) -> list[Mapping[str, Any]]:
        """The cluster's nodes but those that are about to end."""
        return [node for node in ray.nodes() if node["NodeID"] not in self._drained]

    def _release(self, key: RunKey) -> None:
        ray.kill(self._attempts.pop(key).worker)

    def _set(self, key: RunKey, **changes: Any) -> None:
        self._states[key] = replace(self._states[key], **changes)


def describe(score: Score) -> str:
    """Returns a score in words."""
    steps = f"{score.policy_steps:,} policy steps"
    if score.evaluation_return is None:
        return f"{steps}, never evaluated (--evaluation.interval-frames)"
    return (
        f"{steps}, mean return {score.evaluation_return:g} of the last "
        f"{score.evaluation_episodes} evaluation episodes"
    )
