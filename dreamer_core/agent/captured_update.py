"""A gradient step on a card: parts that torch.compile fuses, and all of it as one CUDA graph.

A step is thousands of kernels. `CapturedUpdate` records them once and replays them, so that they
cost one launch; `compile_parts` makes them fewer beforehand.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dreamer_core.agent.optimizer import Optimizer
from dreamer_core.agent.update import StepInputs, StepResult, Update
from dreamer_core.model.behavior import Behavior
from dreamer_core.model.world_model import WorldModel

logger = logging.getLogger(__name__)

CAPTURING = threading.Lock()
"""Held by the thread that captures a graph: whoever begins waits for the whole device, which must
not be while another captures."""
_AGENTS_PER_PROCESS = 64  # for each of which the parts are compiled anew
_WARM_UPS = 3  # before capture, for lazy initialisation and choice of kernels


def compile_parts(
    world_model: WorldModel, behavior: Behavior, optimizers: Mapping[str, Optimizer]
) -> None:
    """Has torch.compile fuse the parts of a step at their first call; each is one whole graph.

    Parts and not the whole: the recurrences are loops over one compiled step, so that there are few
    and small graphs to compile.
    """
    for part, settings in _COMPILER_SETTINGS.items():  # for all of this process
        module = importlib.import_module(f"torch.{part}.config")
        for name, value in settings.items():
            setattr(module, name, value)
    compiled = partial(torch.compile, fullgraph=True, dynamic=False)
    scan_steps = world_model.rssm.scan_steps
    world_model.encode = compiled(world_model.encode)
    world_model.loss_of = compiled(world_model.loss_of)
    scan_steps.forward = compiled(scan_steps.forward)
    scan_steps.backward = compiled(scan_steps.backward)
    behavior.imagine_step = compiled(behavior.imagine_step)
    behavior.loss_of = compiled(behavior.loss_of)
    for optimizer in optimizers.values():
        optimizer.apply = compiled(optimizer.apply)


_COMPILER_SETTINGS: dict[str, dict[str, Any]] = {
    "_dynamo": {"recompile_limit": _AGENTS_PER_PROCESS},
    # The backward pass of a part under autocast holds its own casts. Under the same autocast once
    # more, the products of the float32 output layers would become bfloat16.
    "_functorch": {"backward_pass_autocast": "off"},
    # A pool of compiling processes that was sent to sleep does not always wake up.
    "_inductor": {"quiesce_async_compile_pool": False},
}


def run_compiled(update: Callable[[StepInputs], StepResult], inputs: StepInputs) -> StepResult:
    """Takes a step whose parts may be compiled; as they are written if that fails, with a warning.

    What the compiler makes of a part depends on its version, the driver and the card.
    """
    try:
        return update(inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        logger.warning(
            "The compiled gradient step failed, so it is captured without compiling, at about two "
            "thirds of the speed (--learner.execution captured)",
            exc_info=True,
        )
        torch.compiler.set_stance("force_eager")  # in all of this process
        return update(inputs)  # what is wrong with more than the compiler is raised here


class CapturedUpdate:
    """Replays an update as one CUDA graph, captured at the first call.

    Numbers among the inputs are part of the graph, which is captured anew where they change;
    tensors may differ from call to call.

    Args:
        update: to capture.
        is_compiled: its parts went through `compile_parts`.
    """

    def __init__(self, update: Update, *, is_compiled: bool) -> None:
        self._update = update
        self._is_compiled = is_compiled
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: StepInputs | None = None
        self._result: StepResult | None = None

    def __call__(self, inputs: StepInputs) -> StepResult:
        """Takes one gradient step; returns before the device has done it."""
        if self._inputs is None or self._inputs.numbers() != inputs.numbers():
            self._drop()
            self._capture(inputs)
        assert self._inputs is not None
        assert self._result is not None
        assert self._graph is not None
        _copy_all(inputs.tensors(), self._inputs.tensors())
        self._graph.replay()
        result = self._result
        return StepResult(result.names, result.values.clone(), result.is_good.clone())

    def _drop(self) -> None:
        """Gives back the memory of the graph before, if there is one."""
        if self._graph is None:
            return
        logger.info("A schedule began or ended, so the gradient step is captured anew")
        torch.cuda.current_stream().synchronize()
        self._graph = self._inputs = self._result = None
        with CAPTURING:
            torch.cuda.empty_cache()

    def _capture(self, inputs: StepInputs) -> None:
        """Warms up, puts back what that changed, and records."""
        static: StepInputs = _copied(inputs)
        before = [x.clone() for x in self._update.buffers()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run_compiled(self._update, static) if self._is_compiled else self._update(static)
        torch.cuda.current_stream().wait_stream(side)
        _copy_all(before, self._update.buffers())
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # a policy may act meanwhile
        with CAPTURING, torch.cuda.graph(graph, capture_error_mode=mode):
            self._result = self._update(static)
        self._inputs, self._graph = static, graph


def _copy_all(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        if source.shape != target.shape:
            raise ValueError(
                f"This step was captured for tensors of {tuple(target.shape)}, but got "
                f"{tuple(source.shape)}; every batch of a run must have the same size"
            )
        target.copy_(source)


def _copied(values: Any) -> Any:
    """The same dataclass with tensors of its own."""
    copies: dict[str, Any] = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if isinstance(value, Tensor):
            value = value.clone()
        elif dataclasses.is_dataclass(value):
            value = _copied(value)
        copies[field.name] = value
    return dataclasses.replace(values, **copies)
