"""`dreamer attach`: evaluators of another job beside a learner, which never waits for them."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import tyro
from ray.exceptions import RayError, RayTaskError

from dreamer_core.config import Config
from dreamer_core.policy import ActionMode
from dreamer_core.rollout import env_seed
from dreamer_core.run_directory import RunPaths, holder, read_config
from dreamer_core.types import EpisodeSummary, Report
from services.actors import EXCHANGE, reason
from services.calls import Calls
from services.cluster import read_address
from services.evaluator import Evaluator
from services.placement import on_node

_POLL_S = 0.2
_ANSWER_S = 30.0  # for what needs no work
_ATTACHED_INCARNATION = 2**21  # keeps their environment seeds apart from all others


@dataclass(frozen=True, kw_only=True)
class AttachCommand:
    """Plays episodes with the newest weights of a running run; the results go into that run."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    evaluators: int = 1
    """Processes on this machine that play at the same time, on processor time that is left over."""
    episodes: int | None = 5
    """Episodes in all; None plays until the run ends."""
    mode: Literal["greedy", "sample"] = "greedy"
    """The actor's mode, or a sample of it; the latent state is sampled in both."""

    def __post_init__(self) -> None:
        for name in ("evaluators", "episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value}: wanted 1 or more")


class NotRunning(RuntimeError):
    """There is no running run to attach to, or it has ended."""


def attach(
    command: AttachCommand,
    *,
    on_episode: Callable[[EpisodeSummary, int], None],
    should_stop: Callable[[], bool],
) -> int:
    """Plays until all episodes are played, the run ends, or a stop is asked for.

    Args:
        command: what to play.
        on_episode: is shown every episode, with the gradient steps behind its weights.
        should_stop: asked several times a second.

    Returns:
        Episodes played.

    Raises:
        RunDirectoryError: the directory holds no run.
        NotRunning: the run is not running, or ended before all episodes were played.
    """
    paths = RunPaths(command.run_dir)
    config = read_config(command.run_dir)
    if holder(paths) is None:
        raise NotRunning(
            f"Wanted a running run to attach to, but nobody trains in {command.run_dir}. Start it, "
            "or play with its newest checkpoint: dreamer eval"
        )
    with _connected(paths):
        crowd = _Crowd(config, command, on_episode)
        while not (crowd.is_done or should_stop()):
            if holder(paths) is None or not paths.cluster.exists():
                raise NotRunning(
                    f"The run in {command.run_dir} has ended; {crowd.num_played} episodes were "
                    "played before"
                )
            crowd.work()
        return crowd.num_played


@contextmanager
def _connected(paths: RunPaths) -> Generator[None]:
    """Joins the run's cluster."""
    address = read_address(paths)
    try:
        ray.init(address=address.gcs, namespace=address.namespace, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RayError) as error:
        raise NotRunning(
            f"Wanted to join the cluster of {paths.root} at {address.gcs}, but {reason(error)}. "
            "The run may just be starting or ending: try again"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


class _Crowd:
    """The evaluators of this job."""

    def __init__(
        self,
        config: Config,
        command: AttachCommand,
        on_episode: Callable[[EpisodeSummary, int], None],
    ) -> None:
        self._config = config
        self._command = command
        self._on_episode = on_episode
        self._exchange: Any = None
        self._calls = Calls()
        self._actors: dict[str, Any] = {}
        self._num_begun = 0
        self.num_played = 0

    @property
    def is_done(self) -> bool:
        """Whether all episodes are played."""
        return self.num_played == self._command.episodes

    def work(self) -> None:
        """Gives the idle something to play, and takes what was played."""
        for name in (f"evaluator-{i}" for i in range(self._command.evaluators)):
            is_wanted = self._command.episodes is None or self._num_begun < self._command.episodes
            if is_wanted and not self._calls.in_flight(name) and not self._begin(name):
                break  # no weights yet, or the exchange is being replaced, or the run is ending
        call = self._calls.wait(_POLL_S)
        if call is None:
            return
        try:
            call.on_done(ray.get(call.reference))
        except RayTaskError as error:
            raise NotRunning(f"An evaluation failed: {reason(error)}") from error
        except RayError:  # killed, or its weights went with their node or with the run
            ray.kill(self._actors.pop(call.kind))
            self._num_begun -= 1

    def _begin(self, name: str) -> bool:
        """Has an evaluator play an episode with the newest weights; False if there are none."""
        try:
            self._exchange = self._exchange or ray.get_actor(EXCHANGE)
            newest: Any = ray.get(self._exchange.newest.remote(), timeout=_ANSWER_S)
        except (ValueError, RayError):
            self._exchange = None
            time.sleep(1.0)  # enough for the run to say that it has ended
            return False
        if newest is None:
            return False
        (weights,), policy_step = newest
        if name not in self._actors:
            seed = env_seed(self._config.seed, _ATTACHED_INCARNATION + secrets.randbelow(2**20))
            here = on_node(ray.get_runtime_context().get_node_id())
            make: Any = ray.remote(Evaluator).options(num_cpus=0, **here)
            self._actors[name] = make.remote(self._config, seed)
        mode: ActionMode = self._command.mode
        played = self._actors[name].evaluate.remote(weights, 1, mode, policy_step)
        self._calls.add(name, played, self._take)
        self._num_begun += 1
        return True

    def _take(self, report: Report) -> None:
        self.num_played += 1
        self._on_episode(report.episodes[0], report.labels["weights_version"])
        if self._exchange is not None:
            self._exchange.leave.remote(report)
