"""`dreamer attach`: evaluators of another job beside a learner, which never waits for them."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from dreamer_core.config import Config
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput
from dreamer_core.report.metrics import LATEST
from dreamer_core.report.report import EpisodeSummary, Report
from dreamer_core.run.restored import checkpoint_weights
from dreamer_core.seeds import ATTACHED_INCARNATION, env_seed
from dreamer_core.storage.run_directory import RunPaths, holder
from services.cluster.closing import close_all, is_canceled
from services.cluster.connection import connected
from services.cluster.ray_errors import deliberate, failed_to_start, reason
from services.runtime.address import ClusterAddress, read_address
from services.runtime.attach_command import AttachCommand, NotRunning, require_running
from services.runtime.contact import Contact
from services.runtime.placement import guest_options
from services.workers.evaluator import Evaluator

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_MAX_FRUITLESS_RESTARTS = 5


def attach(
    command: AttachCommand,
    *,
    on_episode: Callable[[EpisodeSummary, int], None],
    on_start: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool],
) -> int:
    """Plays until all episodes are played, the run ends, or a stop is asked for.

    Args:
        command: what to play.
        on_episode: is shown every episode, with the gradient steps behind its weights.
        on_start: is called once Ray is up, which takes over signals when it starts.
        should_stop: asked several times a second.

    Returns:
        Episodes played.

    Raises:
        RunDirectoryError: the directory holds no run.
        BadInput: the run has no such checkpoint, videos cannot be written, or the environment is
            not to be had where the evaluators are.
        CheckpointCorrupt: the checkpoint asked for cannot be read.
        NotRunning: the run is not running, or ended before all episodes were played.
        NoCluster: its cluster lets this machine not in, or is just starting or ending.
    """
    address = _address(command)
    if command.video and not os.access(command.run_dir, os.W_OK):
        raise BadInput(
            f"--video writes to {command.run_dir}, which cannot be written from here; attach where "
            "it can, or drop --video"
        )
    with connected(address.gcs, namespace=address.namespace):
        on_start()
        with closing(_Crowd(command, on_episode)) as crowd:
            while not (crowd.is_done or should_stop()):
                if _has_ended(command) or crowd.contact.is_lost:
                    raise _ended(command, crowd)
                crowd.work()
            return crowd.num_played


def _address(command: AttachCommand) -> ClusterAddress:
    if command.ray_address is not None:
        return ClusterAddress(gcs=command.ray_address, namespace=str(command.run_dir.absolute()))
    require_running(command.run_dir)
    return read_address(RunPaths(command.run_dir))


def _has_ended(command: AttachCommand) -> bool:
    """Whether the run directory says so; from elsewhere the lack of an exchange tells."""
    paths = RunPaths(command.run_dir)
    return command.ray_address is None and (holder(paths) is None or not paths.cluster.exists())


def _ended(command: AttachCommand, crowd: _Crowd) -> NotRunning:
    unnoted = crowd.contact.num_unnoted
    return NotRunning(
        f"The run in {command.run_dir} has ended; {crowd.num_played} episodes were played before"
        + (f", and it did not confirm that it has the last {unnoted} of them" if unnoted else "")
    )


class _Crowd:
    """The evaluators of this job."""

    def __init__(
        self, command: AttachCommand, on_episode: Callable[[EpisodeSummary, int], None]
    ) -> None:
        self._command = command
        self._on_episode = on_episode
        self._config: Config | None = None
        self._fixed: tuple[Any, int] | None = None  # the checkpoint's weights and policy steps
        self._playing: dict[Any, str] = {}  # reference of what is played to who plays it
        self._actors: dict[str, Any] = {}
        self._num_begun = 0
        self._fruitless_restarts = 0
        self.contact = Contact()
        self.num_played = 0

    @property
    def is_done(self) -> bool:
        """Whether all episodes are played, and the run has their results."""
        return self.num_played == self._command.num_episodes and not self.contact.num_unnoted

    def work(self) -> None:
        """Gives the idle something to play, and takes what was played."""
        limit = self._command.num_episodes
        for name in (f"evaluator-{i}" for i in range(self._command.evaluators)):
            is_wanted = limit is None or self._num_begun < limit
            if is_wanted and name not in self._playing.values() and not self._begin(name):
                break  # no weights yet, or the exchange is being replaced, or the run is ending
        self.contact.leave()
        if not self._playing:
            time.sleep(_POLL_S)
        playing = list(self._playing)
        for played in ray.wait(playing, timeout=_POLL_S)[0] if playing else ():
            name = self._playing.pop(played)
            try:
                self._take(ray.get(played))
            except RayError as error:
                self._replace(name, error)

    def close(self) -> None:
        """Has the evaluators give up what they play and close their environments."""
        close_all(self._actors, list(self._playing))

    def _replace(self, name: str, error: RayError) -> None:
        """Has another evaluator play the episode: this one was killed, or lost its weights.

        Raises:
            DreamerError: another one would fail the same way.
            NotRunning: several did without an episode.
            RayError: this one met a bug of ours.
        """
        self._fruitless_restarts += 1
        is_raised = isinstance(error, RayTaskError)
        may_pass = is_raised and isinstance(error.cause, (EnvironmentCrashed, RayError))
        if (is_raised and not may_pass) or failed_to_start(error):
            raise deliberate(error) or error
        if self._fruitless_restarts > _MAX_FRUITLESS_RESTARTS:
            raise NotRunning(f"An evaluation failed: {reason(error)}") from error
        logger.warning("An evaluator is replaced: %s", reason(error))
        actor = self._actors.pop(name)
        close_all({name: actor})
        ray.kill(actor)
        self._num_begun -= 1

    def _begin(self, name: str) -> bool:
        """Has an evaluator play an episode with the wanted weights; False if there are none."""
        found = self._weights()
        if found is None or self._config is None:
            return False
        weights, policy_step = found
        if name not in self._actors:
            seed = env_seed(self._config.seed, ATTACHED_INCARNATION + secrets.randbelow(2**20))
            here = ray.get_runtime_context().get_node_id()
            make: Any = ray.remote(Evaluator).options(**guest_options(here))
            self._actors[name] = make.remote(
                self._config, seed, is_canceled, self._command.episode_limit
            )
        command = self._command
        played = self._actors[name].play.remote(
            weights, command.mode, policy_step, command.weights, has_video=command.video
        )
        self._playing[played] = name
        self._num_begun += 1
        return True

    def _weights(self) -> tuple[Any, int] | None:
        """A reference to the weights to play with, and the policy steps behind them."""
        self._config = self._config or self.contact.config()
        newest = self.contact.newest()
        if self._config is None or newest is None or self._command.weights == LATEST:
            return newest
        return self._checkpoint(self._config)

    def _checkpoint(self, config: Config) -> tuple[Any, int]:
        if self._fixed is None:
            run_dir, step = self._command.run_dir, int(self._command.weights)
            spec = environment_spec(config.env)
            weights, policy_step = checkpoint_weights(run_dir, config, spec, step=step)
            self._fixed = ray.put(weights), policy_step
        return self._fixed

    def _take(self, played: tuple[Report, tuple[str, bytes] | None]) -> None:
        report, video = played
        self.num_played += 1
        self._fruitless_restarts = 0
        version: int = report.labels["weights_version"]
        self._on_episode(report.episodes[0], version)
        self.contact.found(report)
        if video is not None:
            suffix, content = video
            name = f"{version:012d}-{self._command.mode}-{secrets.token_hex(3)}{suffix}"
            self._write(content, name)

    def _write(self, video: bytes, name: str) -> None:
        directory = RunPaths(self._command.run_dir).videos
        try:
            directory.mkdir(exist_ok=True)
            (directory / name).write_bytes(video)
        except OSError as error:  # its result has reached the run, and the next may fit
            logger.warning("A video was not written: %s", error)
