"""The learning agent: one gradient step on a batch, weights for the policy, state to save."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from dreamer_core.agent.captured_update import CapturedUpdate, compile_parts
from dreamer_core.agent.data_parallel import DataParallelUpdate
from dreamer_core.agent.device import Staging, choose_execution, to_tensors
from dreamer_core.agent.optimizer import Optimizer
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.agent.update import (
    OPTIMIZERS,
    StepInputs,
    StepResult,
    Update,
)
from dreamer_core.config import Config
from dreamer_core.errors import BadInput, Failed
from dreamer_core.model.behavior import Behavior
from dreamer_core.model.distributions import seeded_generator
from dreamer_core.model.world_model import TensorBatch, WorldModel
from dreamer_core.seeds import Stream
from dreamer_core.types import Batch, EnvSpec, FloatArray, WeightsSnapshot

logger = logging.getLogger(__name__)

_STEPS_AHEAD = 2  # steps that the device may have to do before the host asks how they went
_TERMS = {"world_model": ("image", "vector", "reward", "kl", "discount")}


class NonFiniteLoss(Failed):
    """A loss or gradient became NaN or infinite; raised before the optimiser could spread it."""


def linear_schedule(start: float, end: float | None, progress: float) -> float:
    """The value at progress in [0, 1] on the line from start to end; `end=None` is constant."""
    return start if end is None else start + (end - start) * min(max(progress, 0.0), 1.0)


class DreamerAgent:
    """World model, actor, critic and their optimisers.

    All randomness is keyed by (seed, gradient step): the same state, batch and step number give
    the same update, so resuming needs no generator state.

    Args:
        config: of the run.
        spec: of the environment.

    Raises:
        BadInput: the configured device does not exist.
    """

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        self.config = config
        self.execution = choose_execution(config.learner)
        self.device = self.execution.device
        self.execution.set_backends()
        cpu = torch.device("cpu")
        with torch.random.fork_rng(devices=[]):
            weights = seeded_generator(cpu, config.seed, Stream.WEIGHTS.word)
            torch.set_rng_state(weights.get_state())
            self.world_model = WorldModel(
                config.world_model,
                channels=spec.image_shape[-1],
                action_size=spec.action_size,
                discount=config.behavior.discount,
                vector_size=spec.vector_size,
            )
            self.behavior = Behavior(
                config.behavior,
                feat_size=self.world_model.rssm.feat_size,
                action_size=spec.action_size,
                is_discrete=spec.is_discrete,
                classes=spec.action_classes,
            )
        self.world_model.to(self.device)
        self.behavior.to(self.device)
        self.optimizers = {
            "world_model": _optimizer(self.world_model, config.world_model.optimizer),
            "actor": _optimizer(self.behavior.actor, config.behavior.actor_optimizer),
            "critic": _optimizer(self.behavior.critic, config.behavior.critic_optimizer),
        }
        self.gradient_step = 0
        """Gradient steps taken."""
        self._staging = Staging(self.device)
        self._unchecked: deque[_Unchecked] = deque()
        if self.execution.is_compiled:
            logger.info(
                "The first gradient step compiles its kernels: a minute on 16 cores, many on two"
            )
            compile_parts(self.world_model, self.behavior, self.optimizers)
        self._eager_update = Update(
            self.world_model, self.behavior, self.optimizers, self.execution.dtype
        )
        self._update: Callable[[StepInputs], StepResult] = self._eager_update
        if self.execution.is_captured:
            self._update = CapturedUpdate(
                self._eager_update, is_compiled=self.execution.is_compiled
            )
        elif self.execution.num_processes > 1:
            self._update = DataParallelUpdate(
                self._eager_update, self.behavior, self.optimizers, config, spec
            )

    def train_step(self, batch: Batch, *, policy_step: int = 0) -> dict[str, Tensor]:
        """Takes one gradient step: world model first, then actor and critic in imagination.

        On CUDA it returns before the device has done the step.

        Args:
            batch: [B, T] sequences.
            policy_step: policy steps of the run so far, the clock of the schedules of rho and eta.

        Returns:
            Scalars on the device by metric name (see report.metrics.METRICS).

        Raises:
            NonFiniteLoss: names the term and the step; parameters are as before that optimiser. On
                CUDA it may be raised by one of the next two calls, and none of these steps counted.
            PeerLost, ValueError: see DataParallelUpdate.
        """
        share, scale = self._scheduled(policy_step)
        self.execution.set_backends()  # another agent of this process may multiply otherwise
        data = self._staging(batch)
        result = self._update(self.inputs(data, share, scale))
        self._staging.mark_read()
        self._unchecked.append(_Unchecked.of(self.gradient_step, result))
        if self.device.type == "cpu":
            self.check()
        elif len(self._unchecked) > _STEPS_AHEAD:
            self._check_oldest()
        self.gradient_step += 1
        if self.gradient_step % self.config.behavior.slow_critic_interval_gradient_steps == 0:
            self.behavior.update_slow_critic()
        return result.metrics() | {
            "dreamer_reinforce_share": torch.full((), share, device=self.device),
            "dreamer_entropy_scale": torch.full((), scale, device=self.device),
        }

    def check(self) -> None:
        """Waits for the device and makes sure that every step so far was finite.

        Raises:
            NonFiniteLoss: see `train_step`.
        """
        while self._unchecked:
            self._check_oldest()

    def snapshot(self) -> WeightsSnapshot:
        """Copies what a policy needs to host memory, all in one piece."""
        modules = {
            "encoder": self.world_model.encoder,
            "vector_encoder": self.world_model.vector_encoder,
            "rssm": self.world_model.rssm,
            "actor": self.behavior.actor,
        }
        params = {
            f"{prefix}.{name}": parameter.detach()
            for prefix, module in modules.items()
            if module is not None
            for name, parameter in module.named_parameters()
        }
        needed = PolicyNetwork.needed(params)
        flat = torch.cat([value.reshape(-1) for value in needed.values()]).cpu()
        parts = flat.split([value.numel() for value in needed.values()])
        arrays = {
            name: part.view(value.shape).numpy()
            for (name, value), part in zip(needed.items(), parts, strict=True)
        }
        return WeightsSnapshot(version=self.gradient_step, params=arrays)

    def state(self) -> dict[str, Any]:
        """Everything that learning continues from, as nested dicts of the live tensors."""
        return {
            "world_model": self.world_model.state_dict(),
            "behavior": self.behavior.state_dict(),
            "optimizers": {name: opt.state() for name, opt in self.optimizers.items()},
            "gradient_step": self.gradient_step,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores `state()`; what else the mapping holds does not matter.

        Raises:
            BadInput: the state belongs to another model, or to another program; nothing changed.
        """
        misfit = self.misfit(state)
        if misfit:
            raise BadInput(
                f"The checkpoint does not fit the configured model ({misfit}). "
                "Resume with the config that the run was started with"
            )
        self.world_model.load_state_dict(state["world_model"])
        self.behavior.load_state_dict(state["behavior"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state(state["optimizers"][name])
        self.gradient_step = state["gradient_step"]

    def misfit(self, state: Mapping[str, Any]) -> str:
        """Returns up to four parts in which a state does not fit this agent; "" if it fits."""
        own = self.state()
        wanted, got = _form(own), _form({name: state[name] for name in own if name in state})
        differing = {name: (wanted.get(name), got.get(name)) for name in sorted({*wanted, *got})}
        named = [f"{n}: {w} wanted, {g} there" for n, (w, g) in differing.items() if w != g]
        return "; ".join(named[:4]) + ("; ..." if len(named) > 4 else "")

    def open_loop(self, batch: Batch, *, context: int) -> FloatArray:
        """Reconstructs `context` rows and imagines the rest: pictures [B, T, 64, 64, C] in [0, 1].

        Without images they show the vectors as bars.
        """
        data = to_tensors(batch, self.device)
        generator = seeded_generator(self.device, self.config.seed, Stream.PICTURE.word)
        noise = self.world_model.rssm.latent.noise(data.reward.shape, generator)
        with self._without_compiling():  # its shapes are not worth it
            return self.world_model.open_loop(data, noise, context=context).picture()

    def _without_compiling(self) -> AbstractContextManager[Any]:
        """Has compiled parts run as written; imports the compiler, 2 s, only where it is used."""
        is_compiled = self.execution.is_compiled
        return torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()

    def inputs(self, data: TensorBatch, reinforce_share: float, entropy_scale: float) -> StepInputs:
        """Returns what the next gradient step depends on; draws its noise."""
        generator = seeded_generator(
            self.device, self.config.seed, Stream.TRAIN.word, self.gradient_step
        )
        latent, rows = self.world_model.rssm.latent, data.reward.shape
        imagined = (self.config.behavior.horizon, rows.numel())
        posterior_noise = latent.noise(tuple(rows), generator)
        action_noise = self.behavior.actions.noise(imagined, generator)
        state_noise = latent.noise(imagined, generator)
        config = self.config.behavior
        # A share of 1 stays a number, so that no gradients of the dynamics are captured with it.
        is_mixed = config.reinforce_share_end is not None and reinforce_share != 1.0
        return StepInputs(
            data=data,
            posterior_noise=posterior_noise,
            action_noise=action_noise,
            state_noise=state_noise,
            reinforce_share=self._number(reinforce_share, is_mixed),
            entropy_scale=self._number(entropy_scale, config.entropy_scale_end is not None),
            gradient_step=self.gradient_step,
        )

    def _number(self, value: float, is_scheduled: bool) -> float | Tensor:
        """A number that changes must be a tensor to reach a captured step."""
        if is_scheduled and self.execution.is_captured:
            return torch.full((), value, device=self.device)
        return value

    def _check_oldest(self) -> None:
        step = self._unchecked.popleft()
        if step.is_good():
            return
        self._unchecked.clear()
        self._eager_update.is_good.fill_(True)
        self.gradient_step = step.gradient_step
        raise NonFiniteLoss(step.explanation())

    def _scheduled(self, policy_step: int) -> tuple[float, float]:
        """(rho, eta) at this policy step."""
        config = self.config.behavior
        progress = policy_step / config.schedule_policy_steps
        return (
            linear_schedule(config.reinforce_share, config.reinforce_share_end, progress),
            linear_schedule(config.entropy_scale, config.entropy_scale_end, progress),
        )


@dataclass(frozen=True, slots=True)
class _Unchecked:
    """A step of which the host does not know yet whether it was finite."""

    gradient_step: int
    result: StepResult
    flags: Tensor
    """is_good on its way to page-locked memory."""
    is_there: torch.cuda.Event | None

    @staticmethod
    def of(gradient_step: int, result: StepResult) -> _Unchecked:
        if not result.is_good.is_cuda:
            return _Unchecked(gradient_step, result, result.is_good, None)
        flags = torch.empty(len(OPTIMIZERS), dtype=torch.bool, pin_memory=True)
        flags.copy_(result.is_good, non_blocking=True)
        is_there = torch.cuda.Event(blocking=True)
        is_there.record()
        return _Unchecked(gradient_step, result, flags, is_there)

    def is_good(self) -> bool:
        if self.is_there is not None:
            self.is_there.synchronize()
        return bool(self.flags.all())

    def explanation(self) -> str:
        name = OPTIMIZERS[self.flags.tolist().index(False)]
        metrics = {k: float(v) for k, v in self.result.metrics().items()}
        losses = {term: f"dreamer_{term}_loss" for term in _TERMS.get(name, (name,))}
        terms = {term: metrics[loss] for term, loss in losses.items() if loss in metrics}
        offending = [term for term, x in terms.items() if not math.isfinite(x)]
        return (
            f"Non-finite {name} loss at gradient step {self.gradient_step}: "
            f"{', '.join(offending) or 'only the gradient'} is not finite (terms {terms}, "
            f"gradient norm {metrics[f'dreamer_{name}_gradient_norm']}). The {name} was not "
            "updated; the last checkpoint is good. Lower the learning rate or look at the rewards"
        )


def _optimizer(module: nn.Module, config: Any) -> Optimizer:
    return Optimizer(list(module.parameters()), config)


def _form(state: Any, name: str = "") -> dict[str, str]:
    """Returns the shape or kind of every leaf of nested mappings, by its name."""
    if isinstance(state, Mapping):
        items = cast("Mapping[str, Any]", state).items()
        return {n: f for key, v in items for n, f in _form(v, f"{name}.{key}".strip(".")).items()}
    form = "x".join(map(str, state.shape)) if isinstance(state, Tensor) else type(state).__name__
    return {name: form or "number"}
