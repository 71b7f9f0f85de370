"""The policy on a CUDA card: from image to action it is one graph, launched by one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamer_core.agent.captured_update import CAPTURING
from dreamer_core.agent.policy import ActionMode, PolicyNetwork, PolicyState
from dreamer_core.config import Config
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array, WeightsSnapshot

_WARM_UPS = 3


class CapturedPolicy(PolicyNetwork):
    """Acts as `PolicyNetwork` does, with the same noise, up to rounding.

    Its stream goes before the learner's, so that it acts between two kernels of a gradient step. A
    state that it returns holds until its next step.

    Args:
        config: of the run.
        spec: of the environment.
        device: the card.
    """

    def __init__(self, config: Config, spec: EnvSpec, device: torch.device) -> None:
        super().__init__(config, spec)
        self._stream = torch.cuda.Stream(device, priority=-1)
        self.to(device)
        self._state = self.initial()
        self._newest: PolicyState | None = None
        self._captured = dict[ActionMode, _Captured]()

    def load(self, weights: WeightsSnapshot) -> None:
        """Takes over the weights of a snapshot; see `PolicyNetwork.load`."""
        super().load(weights)
        torch.cuda.current_stream(self._stream.device).synchronize()

    def initial(self) -> PolicyState:
        """The zero state; made in the order of the steps, and not behind the learner's work."""
        with torch.cuda.stream(self._stream):
            return super().initial()

    def state_of(self, deter: FloatArray, stoch: FloatArray, action: FloatArray) -> PolicyState:
        """Rebuilds a state, likewise."""
        with torch.cuda.stream(self._stream):
            return super().state_of(deter, stoch, action)

    def _lay_out(self) -> None:
        """Leaves the weights as they are; a card reads them in this order."""

    @torch.inference_mode()
    def act(
        self,
        state: PolicyState,
        image: UInt8Array,
        generator: torch.Generator,
        mode: ActionMode,
        vector: FloatArray | None = None,
    ) -> tuple[FloatArray, PolicyState]:
        """Returns the action [A] and the next state; see `PolicyNetwork.act`."""
        noise = self.noise(generator, mode)
        numbers = None if vector is None else torch.from_numpy(vector)
        given = [torch.from_numpy(image), *noise, numbers]
        with torch.cuda.stream(self._stream):
            if mode not in self._captured:
                self._captured[mode] = self._capture(given)
            captured = self._captured[mode]
            for source, pinned, target in zip(given, captured.pinned, captured.inputs, strict=True):
                if source is not None and pinned is not None and target is not None:
                    pinned.copy_(source)
                    target.copy_(pinned, non_blocking=True)
            if state is not self._newest:
                _copy(state, self._state)
            captured.graph.replay()
            captured.action.copy_(self._state.action, non_blocking=True)
            self._stream.synchronize()
        self._newest = PolicyState(self._state.model, self._state.action)
        return captured.action[0].numpy().copy(), self._newest

    def _capture(self, given: list[Tensor | None]) -> _Captured:
        inputs = [None if x is None else x.to(self._stream.device) for x in given]
        before = [x.clone() for x in _parts(self._state)]
        graph = torch.cuda.CUDAGraph()
        for _ in range(_WARM_UPS):
            self._step(inputs)
        for x, value in zip(_parts(self._state), before, strict=True):
            x.copy_(value)
        self._stream.synchronize()
        with (
            CAPTURING,
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            self._step(inputs)
        return _Captured(
            graph=graph,
            pinned=[None if x is None else torch.empty_like(x).pin_memory() for x in given],
            inputs=inputs,
            action=torch.zeros(1, self.spec.action_size).pin_memory(),
        )

    def _step(self, inputs: list[Tensor | None]) -> None:
        image, latent_noise, action_noise, vector = inputs
        assert image is not None
        assert latent_noise is not None
        state = self.next(self._state, image, latent_noise, action_noise, vector)
        _copy(state, self._state)


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph, and what it reads and writes."""

    graph: torch.cuda.CUDAGraph
    pinned: list[Tensor | None]
    """Image, noise of the latent and of the action, vector; in page-locked memory."""
    inputs: list[Tensor | None]
    """The same on the device."""
    action: Tensor
    """Page-locked."""


def _parts(state: PolicyState) -> tuple[Tensor, Tensor, Tensor]:
    return state.model.deter, state.model.stoch, state.action


def _copy(source: PolicyState, target: PolicyState) -> None:
    for x, y in zip(_parts(source), _parts(target), strict=True):
        y.copy_(x, non_blocking=True)


def policy_of(config: Config, spec: EnvSpec, device: torch.device) -> PolicyNetwork:
    """Returns a policy on the learner's card, unless there is none or the CPU is wanted.

    Args:
        config: of the run.
        spec: of the environment.
        device: of the learner.
    """
    if device.type == "cpu" or config.learner.policy_device == "cpu":
        return PolicyNetwork(config, spec)
    return CapturedPolicy(config, spec, device)
