"""The process that computes its part of gradient steps; see data_parallel.py.

Run as `python -m dreamer_core.agent.peer SOCKET MEMORY` by the process that it helps, which
passes both descriptors. It ends when the other end of the socket is closed.
"""

from __future__ import annotations

import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.arena import Arena
from dreamer_core.agent.data_parallel import (
    Answer,
    Request,
    Task,
    batch_in,
    rows_of,
    share_parameters,
)
from dreamer_core.agent.update import StepInputs, Update
from dreamer_core.model.operators import keep_freed_memory
from dreamer_core.model.rssm import RSSMState


class Peer:
    """Computes the parts of steps of one process.

    Args:
        task: what it was started with.
        arena: the shared memory.
    """

    def __init__(self, task: Task, arena: Arena) -> None:
        learner = replace(task.config.learner, num_processes=1, device="cpu")
        agent = DreamerAgent(replace(task.config, learner=learner), task.spec)
        share_parameters(arena, agent.optimizers, agent.behavior.slow_critic)
        self._agent = agent
        self._update = Update(
            agent.world_model, agent.behavior, agent.optimizers, agent.execution.dtype
        )
        self._tensors = arena.tensors
        self._batch = batch_in(arena)
        self._index = task.index
        self._rows = rows = rows_of(task.index, task.config)
        length = self._batch.reward.shape[1]
        starts = slice(rows.start * length, rows.stop * length)
        self._start = RSSMState(arena.tensors["deter"][starts], arena.tensors["stoch"][starts])
        self._drawn: tuple[Request, StepInputs] | None = None  # both halves take the same noise

    def __call__(self, request: Request) -> Answer:
        """Computes what is asked for; leaves gradients and start states in shared memory."""
        inputs = self._inputs(request)
        if request.half == "world_model":
            part, states = self._update.world_model_part(inputs)
            self._start.deter.copy_(states.deter)
            self._start.stoch.copy_(states.stoch)
        else:
            part = self._update.behavior_part(inputs, self._start)
        for name, gradient in part.gradients.items():
            self._tensors[f"{name}.{self._index}"].copy_(gradient)
        scalars = (part.losses, part.metrics)
        return Answer(*({name: float(x) for name, x in some.items()} for some in scalars))

    def _inputs(self, request: Request) -> StepInputs:
        """What this part of the step depends on; drawn for the first half that is asked for."""
        step = request._replace(half="")
        if self._drawn is None or self._drawn[0] != step:
            self._agent.gradient_step = step.gradient_step
            inputs = self._agent.inputs(self._batch, step.reinforce_share, step.entropy_scale)
            self._drawn = step, inputs.of_rows(self._rows)
        return self._drawn[1]


def main(socket: int, memory: int) -> None:
    """Answers requests until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that asks decides when to end
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(socket)
    try:
        task = connection.recv()
        torch.set_num_threads(task.config.learner.num_threads)
        keep_freed_memory()
        peer = Peer(task, Arena(task.layout, memory))
        while True:
            connection.send(peer(connection.recv()))
    except (EOFError, ConnectionError):
        return
    except Exception:  # noqa: BLE001 (the process that asks raises it)
        connection.send(f"A process of the learner failed\n{traceback.format_exc()}")
        sys.exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
