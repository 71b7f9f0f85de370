"""One gradient step whose batch several processes share; on CPUs.

Each process computes losses and gradients of its own sequences, and the means over all of them are
what one process would have found, but for rounding. torch's own threads would instead meet at the
end of every operator, wait for each other by spinning, and stand still together where one core is
busy; threads of Python would queue for its lock.

    this process                                    each peer
    writes batch and parameters to shared memory
    asks for the world model  --------------------> gradients of its sequences
    gradients of its own      <-------------------- done, with metrics
    applies the mean; asks for the behaviour -----> gradients from its start states
    gradients of its own      <-------------------- done, with metrics
    applies the mean

A peer owns nothing: parameters, start states and gradients lie in shared memory, noise is drawn
from the number of the step. One that died is started anew and asked again.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from logging import getLogger
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
from torch import Tensor

from dreamer_core.agent.arena import Arena, ArenaLayout
from dreamer_core.agent.optimizer import Optimizer, lay_out
from dreamer_core.agent.update import Part, StepInputs, StepResult, Update
from dreamer_core.config import Config
from dreamer_core.errors import Failed
from dreamer_core.model.behavior import Behavior
from dreamer_core.model.world_model import TensorBatch
from dreamer_core.types import EnvSpec

HALVES = {"world_model": ("world_model",), "behavior": ("actor", "critic")}
"""The optimisers of each half of a step."""
_LOST = (EOFError, ConnectionError)
_TIME_TO_END_S = 10.0
logger = getLogger(__name__)


class PeerLost(Failed):
    """A peer died, and so did the one that took its place."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a peer is started with."""

    config: Config
    spec: EnvSpec
    layout: ArenaLayout
    index: int
    """Of the peer, 1 and up; the process that asks is 0."""


class Request(NamedTuple):
    """The part of half a step that a peer is asked for."""

    half: str
    """One of HALVES."""
    gradient_step: int
    reinforce_share: float
    entropy_scale: float


class Answer(NamedTuple):
    """What a peer tells, beside the gradients that it leaves in shared memory; see Part."""

    losses: dict[str, float]
    metrics: dict[str, float]


def rows_of(index: int, config: Config) -> slice:
    """Which sequences of a batch the process with this number takes."""
    size, count = config.replay.batch_size, config.learner.num_processes
    return slice(index * size // count, (index + 1) * size // count)


def batch_in(arena: Arena) -> TensorBatch:
    """The shared batch."""
    names = [field.name for field in fields(TensorBatch)]
    return TensorBatch(**{name: arena.tensors[name] for name in names if name in arena.tensors})


def share_parameters(
    arena: Arena, optimizers: Mapping[str, Optimizer], slow_critic: torch.nn.Module
) -> None:
    """Makes the parameters of a process those in shared memory."""
    for name, optimizer in optimizers.items():
        optimizer.move_to(arena.tensors[name])
    lay_out(list(slow_critic.parameters()), arena.tensors["slow_critic"])


class DataParallelUpdate:
    """Takes the steps of an update together with peers, which start at the first step.

    Args:
        update: of this process.
        behavior: its slow critic is shared.
        optimizers: of the update, by name; their parameters move to shared memory.
        config: of the run; `learner.num_processes` says how many share a batch.
        spec: of the environment.
    """

    def __init__(
        self,
        update: Update,
        behavior: Behavior,
        optimizers: Mapping[str, Optimizer],
        config: Config,
        spec: EnvSpec,
    ) -> None:
        self._update = update
        self._slow_critic = behavior.slow_critic
        self._optimizers = optimizers
        self._config = config
        self._spec = spec
        self._arena: Arena | None = None
        self._peers: list[_PeerProcess] = []

    def __call__(self, inputs: StepInputs) -> StepResult:
        """Takes one gradient step.

        Raises:
            PeerLost: a peer died twice.
            ValueError: the batch has not the size of the config, or not that of the one before.
        """
        if self._arena is None:
            self._arena = self._start(inputs)
        for name, column in inputs.data.columns().items():
            shared = self._arena.tensors[name]
            if column.shape != shared.shape:
                raise ValueError(
                    f"{name} has shape {tuple(column.shape)}, but the processes of the learner "
                    f"share {tuple(shared.shape)}; every batch must have the replay.batch_size "
                    "sequences of the config, and all the same length"
                )
            shared.copy_(column)
        together = {half: partial(self._together, half, inputs) for half in HALVES}
        return self._update.step(inputs.of_rows(rows_of(0, self._config)), **together)

    def _together(self, half: str, inputs: StepInputs, compute: Callable[[], Part]) -> Part:
        """Computes half a step with all peers; returns the means over the batch."""
        request = Request(
            half,
            gradient_step=inputs.gradient_step,
            reinforce_share=float(inputs.reinforce_share),
            entropy_scale=float(inputs.entropy_scale),
        )
        for peer in self._peers:
            peer.ask(request)
        parts = [compute(), *(peer.part() for peer in self._peers)]
        all_rows = [rows_of(index, self._config) for index in range(len(parts))]
        shares = [(rows.stop - rows.start) / self._config.replay.batch_size for rows in all_rows]
        return Part(*(_weighted(shares, columns) for columns in zip(*parts, strict=True)))

    def _start(self, inputs: StepInputs) -> Arena:
        """Moves the parameters to shared memory and starts the peers."""
        modules = {name: optimizer.parameters for name, optimizer in self._optimizers.items()}
        modules["slow_critic"] = list(self._slow_critic.parameters())
        flat = {name: sum(p.numel() for p in parameters) for name, parameters in modules.items()}
        indices = range(1, self._config.learner.num_processes)
        flat |= {f"{name}.{i}": flat[name] for name in self._optimizers for i in indices}
        config, columns = self._config, inputs.data.columns()
        size, length = config.replay.batch_size, inputs.data.reward.shape[1]
        noise = inputs.posterior_noise[0, 0]  # as many numbers as z has
        states = {"deter": config.world_model.deter, "stoch": noise.numel()}
        arena = Arena(
            {
                **{name: ((n,), torch.float32) for name, n in flat.items()},
                **{name: ((size * length, n), torch.float32) for name, n in states.items()},
                **{name: ((size, *x.shape[1:]), x.dtype) for name, x in columns.items()},
            }
        )
        for name, parameters in modules.items():
            torch.cat([p.detach().reshape(-1) for p in parameters], out=arena.tensors[name])
        share_parameters(arena, self._optimizers, self._slow_critic)
        self._peers = [
            _PeerProcess(Task(config, self._spec, arena.layout, index), arena) for index in indices
        ]
        return arena


class _PeerProcess:
    """A process that computes its part of a step, and the next one if it dies."""

    def __init__(self, task: Task, arena: Arena) -> None:
        self._task = task
        self._arena = arena
        self._request: Request | None = None  # until its answer is taken
        self._start()

    def ask(self, request: Request) -> None:
        """Has it begin.

        One whose last answer nobody took, as after an interrupt, is replaced: it would come now.
        """
        if self._request is not None:
            self._end()
            self._start()
        self._request = request
        self._send(request)

    def part(self) -> Part:
        """Waits for what it was asked for.

        Raises:
            PeerLost: it died, and so did the next one.
            RuntimeError: it met a bug, or too little memory; with its trace.
        """
        assert self._request is not None
        answer = self._answer()
        if answer is None:
            self._start_anew()
            answer = self._answer()
        if answer is None:
            raise PeerLost(
                f"A process of the learner died twice at the same step ({self._end()}). Most "
                "often memory is too small: lower learner.num_processes or the sizes of the model"
            )
        if isinstance(answer, str):
            raise RuntimeError(answer)  # noqa: TRY004 (a trace, and no wrong type of ours)
        gradients = {
            name: self._arena.tensors[f"{name}.{self._task.index}"]
            for name in HALVES[self._request.half]
        }
        losses, metrics = ({n: torch.tensor(x) for n, x in values.items()} for values in answer)
        self._request = None
        return Part(gradients, losses, metrics)

    def _answer(self) -> Answer | str | None:
        try:
            return self._connection.recv()  # type: ignore[no-any-return]
        except _LOST:
            return None

    def _start_anew(self) -> None:
        logger.warning("A process of the learner died (%s); another takes its place", self._end())
        self._start()
        self._send(self._request)

    def _send(self, message: Task | Request | None) -> None:
        with suppress(*_LOST):  # nor does it answer then
            self._connection.send(message)

    def _start(self) -> None:
        own, its = socket.socketpair()
        descriptors = (its.fileno(), self._arena.descriptor)
        self._process = subprocess.Popen(  # noqa: S603 (nothing of it comes from outside)
            # -P: what lies in the working directory, such as a random.py, is not on our path
            [sys.executable, "-P", "-m", "dreamer_core.agent.peer", *map(str, descriptors)],
            pass_fds=descriptors,
            process_group=0,  # Ctrl-C is for us alone, also before it can ignore it
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        its.close()
        self._connection = Connection(own.detach())
        self._send(self._task)
        self._end = weakref.finalize(self, _end, self._process, self._connection)


def _end(process: subprocess.Popen[bytes], connection: Connection) -> str:
    """Ends a peer, which may be dead; says how it ended."""
    connection.close()
    try:
        code = process.wait(_TIME_TO_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _weighted(shares: Sequence[float], parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor over all sequences, from the means over parts of them."""
    return {
        name: sum(
            (share * part[name] for share, part in zip(shares[1:], parts[1:], strict=True)),
            shares[0] * parts[0][name],
        )
        for name in parts[0]
    }
