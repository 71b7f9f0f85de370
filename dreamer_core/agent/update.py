"""One gradient step as a function of tensors: no random numbers, no wait for the device.

It runs anywhere; captured_update.py makes it one launch on a card.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dreamer_core.agent.optimizer import Optimizer, gradients
from dreamer_core.model.behavior import Behavior, BehaviorLoss
from dreamer_core.model.rssm import RSSMState
from dreamer_core.model.world_model import TensorBatch, WorldModel, WorldModelLoss

OPTIMIZERS = ("world_model", "actor", "critic")
"""In the order in which they step."""


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What one gradient step depends on besides the agent's state."""

    data: TensorBatch
    posterior_noise: Tensor
    """[B, T, ...], see `Latent.noise`."""
    action_noise: Tensor
    """[H, B T, ...]."""
    state_noise: Tensor
    """[H, B T, ...]."""
    reinforce_share: float | Tensor
    """rho; a scalar tensor while it changes over the run of a captured step."""
    entropy_scale: float | Tensor
    """eta; likewise."""
    gradient_step: int = 0
    """Number of the step, from which the noise was drawn."""

    def tensors(self) -> list[Tensor]:
        """Every tensor among them, in a fixed order."""
        data = self.data.columns().values()
        others = (
            self.posterior_noise,
            self.action_noise,
            self.state_noise,
            self.reinforce_share,
            self.entropy_scale,
        )
        return [x for x in (*data, *others) if isinstance(x, Tensor)]

    def numbers(self) -> tuple[float | None, float | None]:
        """rho and eta where they are numbers, which a captured step keeps; None for a tensor."""
        rho, eta = self.reinforce_share, self.entropy_scale
        return None if isinstance(rho, Tensor) else rho, None if isinstance(eta, Tensor) else eta

    def of_rows(self, rows: slice) -> StepInputs:
        """What the sequences at these places of the batch depend on."""
        columns = self.data.columns()
        length = self.data.reward.shape[1]
        starts = slice(rows.start * length, rows.stop * length)
        return dataclasses.replace(
            self,
            data=TensorBatch(**{name: column[rows] for name, column in columns.items()}),
            posterior_noise=self.posterior_noise[rows],
            action_noise=self.action_noise[:, starts],
            state_noise=self.state_noise[:, starts],
        )


class Part(NamedTuple):
    """What some sequences of a batch give one of the two halves of a step."""

    gradients: dict[str, Tensor]
    """Flat, by the name of their optimiser."""
    losses: dict[str, Tensor]
    """Of these optimisers; scalars."""
    metrics: dict[str, Tensor]
    """Scalars; like gradients and losses, means over the sequences."""


Shared = Callable[[Callable[[], Part]], Part]
"""Returns the part of a whole batch, given what computes that of the sequences at hand."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one gradient step reports; on the device."""

    names: tuple[str, ...]
    """Of the metrics, see report.metrics.METRICS."""
    values: Tensor
    """Their values [M], float32."""
    is_good: Tensor
    """Whether each of OPTIMIZERS stepped; none does after one met a non-finite loss [3]."""

    def metrics(self) -> dict[str, Tensor]:
        """The metrics as scalars by name."""
        return dict(zip(self.names, self.values.unbind(), strict=True))


class Update:
    """World model first, then actor and critic in imagination with the updated world model.

    Args:
        world_model: to train.
        behavior: to train.
        optimizers: by the names of OPTIMIZERS.
        dtype: of matrix products and convolutions; parameters, outputs of heads, softmax,
            LayerNorm and losses are float32 whatever it is.
    """

    def __init__(
        self,
        world_model: WorldModel,
        behavior: Behavior,
        optimizers: Mapping[str, Optimizer],
        dtype: torch.dtype,
    ) -> None:
        self._world_model = world_model
        self._behavior = behavior
        self._optimizers = optimizers
        self._dtype = dtype
        self._device = next(world_model.parameters()).device
        self.is_good = torch.ones((), dtype=torch.bool, device=self._device)
        """False once a loss or gradient was not finite; then nothing steps any more."""

    def __call__(self, inputs: StepInputs) -> StepResult:
        """Takes one gradient step."""
        return self.step(inputs, world_model=lambda part: part(), behavior=lambda part: part())

    def step(self, inputs: StepInputs, *, world_model: Shared, behavior: Shared) -> StepResult:
        """Takes one gradient step whose halves others may share.

        Args:
            inputs: of the sequences at hand.
            world_model: completes the part of the world model.
            behavior: completes the part of actor and critic.
        """
        starts: list[RSSMState] = []

        def world_model_part() -> Part:
            part, state = self.world_model_part(inputs)
            starts.append(state)
            return part

        parts = [world_model(world_model_part)]
        norms, goods = self._apply(parts[0])
        parts.append(behavior(lambda: self.behavior_part(inputs, starts[0])))
        more_norms, more_goods = self._apply(parts[1])
        metrics = parts[0].metrics | parts[1].metrics | norms | more_norms
        values = torch.stack([value.detach().float() for value in metrics.values()])
        return StepResult(tuple(metrics), values, torch.stack(goods + more_goods))

    def world_model_part(self, inputs: StepInputs) -> tuple[Part, RSSMState]:
        """Differentiates the world model's loss.

        Returns:
            The part, and the posterior states of the sequences, [B T, ...], detached.
        """
        model = self._world_model
        with self._autocast():
            loss = model.loss(inputs.data, inputs.posterior_noise)
        found = self._gradients({"world_model": loss.total})
        metrics = _detached(_world_model_metrics(model, loss, inputs.data))
        states = loss.observed.state.detach()
        start = RSSMState(states.deter.flatten(0, 1), states.stoch.flatten(0, 1))
        return Part(found, _detached({"world_model": loss.total}), metrics), start

    def behavior_part(self, inputs: StepInputs, start: RSSMState) -> Part:
        """Imagines from every start state and differentiates the losses of actor and critic."""
        share = inputs.reinforce_share
        is_reinforce = not isinstance(share, Tensor) and share == 1.0
        if is_reinforce and self._dtype == torch.float32:
            start = self._world_model.rssm.located(start)
        with self._autocast():
            loss = self._behavior.loss(
                self._world_model,
                start,
                self._world_model.discount_target(inputs.data.is_terminal).flatten(),
                inputs.action_noise,
                inputs.state_noise,
                reinforce_share=share,
                entropy_scale=inputs.entropy_scale,
            )
        losses = {"actor": loss.actor, "critic": loss.critic}
        found = self._gradients(losses)
        return Part(found, _detached(losses), _detached(_behavior_metrics(loss)))

    def buffers(self) -> list[Tensor]:
        """Every tensor that a step changes."""
        return [self.is_good, *(x for opt in self._optimizers.values() for x in opt.buffers())]

    def _autocast(self) -> torch.autocast:
        is_reduced = self._dtype != torch.float32
        return torch.autocast(self._device.type, self._dtype, enabled=is_reduced)

    def _gradients(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        optimizers = [self._optimizers[name] for name in losses]
        found = gradients(optimizers, torch.stack(list(losses.values())).sum())
        return dict(zip(losses, found, strict=True))

    def _apply(self, part: Part) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Has each optimiser of a part step.

        Returns:
            The norms of the gradients as metrics; `is_good` after each.
        """
        norms, goods = dict[str, Tensor](), list[Tensor]()
        for name, gradient in part.gradients.items():
            norm = torch.linalg.vector_norm(gradient)
            self.is_good.logical_and_(torch.isfinite(norm) & torch.isfinite(part.losses[name]))
            self._optimizers[name].apply(gradient, norm, self.is_good)
            goods.append(self.is_good.clone())
            norms[f"dreamer_{name}_gradient_norm"] = norm
        return norms, goods


@torch.no_grad()
def _world_model_metrics(
    model: WorldModel, loss: WorldModelLoss, data: TensorBatch
) -> dict[str, Tensor]:
    latent, observed = model.rssm.latent, loss.observed
    metrics = {f"dreamer_{name}_loss": term for name, term in loss.terms.items()}
    observed_sizes = {"image": data.image[0, 0].numel()}
    if data.vector is not None:
        observed_sizes["vector"] = data.vector.shape[-1]
    for name, size in observed_sizes.items():
        if name in loss.terms:
            error = 2 * loss.terms[name].detach() / size
            metrics[f"dreamer_{name}_mean_squared_error"] = error
    return metrics | {
        "dreamer_world_model_loss": loss.total,
        "dreamer_kl_nats": latent.kl(observed.posterior, observed.prior).mean(),
        "dreamer_prior_entropy_nats": latent.entropy(observed.prior).mean(),
        "dreamer_posterior_entropy_nats": latent.entropy(observed.posterior).mean(),
    }


def _detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}


def _behavior_metrics(loss: BehaviorLoss) -> dict[str, Tensor]:
    return {
        "dreamer_actor_loss": loss.actor,
        "dreamer_critic_loss": loss.critic,
        "dreamer_actor_entropy_nats": loss.actor_entropy,
        "dreamer_actor_target_mean": loss.target.mean(),
        "dreamer_value_mean": loss.value.mean(),
        "dreamer_imagined_reward_mean": loss.reward.mean(),
        "dreamer_imagined_discount_mean": loss.discount.mean(),
    }
