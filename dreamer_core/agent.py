"""The learning agent: one gradient step on a batch, weights for the policy, state to save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dreamer_core.behavior import Behavior, BehaviorLoss
from dreamer_core.config import Config
from dreamer_core.distributions import seeded_generator
from dreamer_core.environment import EnvSpec
from dreamer_core.optimizer import Optimizer
from dreamer_core.policy import Policy
from dreamer_core.rssm import RSSMState
from dreamer_core.types import Batch, WeightsSnapshot
from dreamer_core.world_model import TensorBatch, WorldModel, WorldModelLoss

# The first word of each stream of random numbers; see distributions.seeded_generator.
_WEIGHTS_STREAM, _TRAIN_STREAM, _PICTURE_STREAM = 0, 1, 2


class NonFiniteLoss(RuntimeError):
    """A loss or gradient became NaN or infinite; raised before the optimiser could spread it."""


def choose_device(name: str) -> torch.device:
    """Returns the device that a config names; `auto` takes CUDA where there is any.

    Raises:
        ValueError: CUDA is wanted and torch sees none.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ValueError(
            f"learner.device=cuda, but torch {torch.__version__} sees no CUDA device; install a "
            "CUDA build of torch or set --learner.device cpu"
        )
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


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
        ValueError: the configured device does not exist.
    """

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        self.config = config
        self.device = choose_device(config.learner.device)
        cpu = torch.device("cpu")
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(
                seeded_generator(cpu, config.seed, _WEIGHTS_STREAM).get_state()
            )  # fmt: skip
            self.world_model = WorldModel(
                config.world_model,
                channels=spec.image_shape[-1],
                action_size=spec.action_size,
                discount=config.behavior.discount,
            )
            self.behavior = Behavior(
                config.behavior,
                feat_size=self.world_model.rssm.feat_size,
                action_size=spec.action_size,
                is_discrete=spec.is_discrete,
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

    def train_step(self, batch: Batch, *, policy_step: int = 0) -> dict[str, Tensor]:
        """Takes one gradient step: world model first, then actor and critic in imagination.

        Args:
            batch: [B, T] sequences.
            policy_step: policy steps of the run so far, the clock of the schedules of rho and eta.

        Returns:
            Scalars on the device by metric name (see report.METRICS).

        Raises:
            NonFiniteLoss: names the term and the step; parameters are as before that optimiser.
        """
        data = to_tensors(batch, self.device)
        generator = seeded_generator(
            self.device, self.config.seed, _TRAIN_STREAM, self.gradient_step
        )
        latent = self.world_model.rssm.latent
        model_loss = self.world_model.loss(data, latent.noise(data.reward.shape, generator))
        norms = {"world_model": self._update("world_model", model_loss.total, model_loss.terms)}
        share, scale = self._scheduled(policy_step)
        loss = self._behavior_loss(data, model_loss, generator, share, scale)
        norms["actor"] = self._update("actor", loss.actor, {"actor": loss.actor})
        norms["critic"] = self._update("critic", loss.critic, {"critic": loss.critic})
        self.gradient_step += 1
        if self.gradient_step % self.config.behavior.slow_critic_interval_gradient_steps == 0:
            self.behavior.update_slow_critic()
        metrics = _world_model_metrics(self.world_model, model_loss, data)
        metrics |= _behavior_metrics(loss, share, scale)
        return metrics | {f"dreamer_{name}_gradient_norm": norm for name, norm in norms.items()}

    def snapshot(self) -> WeightsSnapshot:
        """Copies what a policy needs to host memory."""
        modules = {
            "encoder": self.world_model.encoder,
            "rssm": self.world_model.rssm,
            "actor": self.behavior.actor,
        }
        params = {
            f"{prefix}.{name}": parameter.detach()
            for prefix, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        arrays = {k: v.cpu().numpy().copy() for k, v in Policy.needed(params).items()}
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
        """Restores `state()`.

        Raises:
            ValueError: the state belongs to another model.
        """
        try:
            self.world_model.load_state_dict(state["world_model"])
            self.behavior.load_state_dict(state["behavior"])
        except RuntimeError as error:
            raise ValueError(
                f"The checkpoint does not fit the configured model: {error}. "
                "Resume with the config that the run was started with"
            ) from error
        for name, optimizer in self.optimizers.items():
            optimizer.load_state(state["optimizers"][name])
        self.gradient_step = int(state["gradient_step"])

    def open_loop(self, batch: Batch, *, context: int) -> Tensor:
        """Reconstructs `context` images and imagines the rest, [B, T, 64, 64, C] in [0, 1], CPU."""
        data = to_tensors(batch, self.device)
        generator = seeded_generator(self.device, self.config.seed, _PICTURE_STREAM)
        noise = self.world_model.rssm.latent.noise(data.reward.shape, generator)
        image = self.world_model.open_loop(data, noise, context=context)
        return (image + 0.5).clamp(0, 1).cpu()

    def _behavior_loss(
        self,
        data: TensorBatch,
        model_loss: WorldModelLoss,
        generator: torch.Generator,
        reinforce_share: float,
        entropy_scale: float,
    ) -> BehaviorLoss:
        """Imagines from every posterior state of the batch with the updated world model."""
        states = model_loss.observed.state.detach()
        start = RSSMState(states.deter.flatten(0, 1), states.stoch.flatten(0, 1))
        if reinforce_share == 1:
            start = self.world_model.rssm.located(start)
        shape = (self.config.behavior.horizon, start.deter.shape[0])
        return self.behavior.loss(
            self.world_model,
            start,
            self.world_model.discount_target(data.is_terminal).flatten(),
            self.behavior.actions.noise(shape, generator),
            self.world_model.rssm.latent.noise(shape, generator),
            reinforce_share=reinforce_share,
            entropy_scale=entropy_scale,
        )

    def _update(self, name: str, loss: Tensor, terms: Mapping[str, Tensor]) -> Tensor:
        """Steps one optimiser after a finite check; returns the gradient norm."""
        optimizer = self.optimizers[name]
        gradient, norm = optimizer.gradient(loss)
        if not bool(torch.isfinite(norm) & torch.isfinite(loss)):
            values = {term: float(value.detach()) for term, value in terms.items()}
            offending = [term for term, x in values.items() if not math.isfinite(x)]
            raise NonFiniteLoss(
                f"Non-finite {name} loss at gradient step {self.gradient_step}: "
                f"{', '.join(offending) or 'only the gradient'} is not finite "
                f"(terms {values}, gradient norm {float(norm)}). The {name} was not updated; "
                "the last checkpoint is good. Lower the learning rate or look at the rewards"
            )
        optimizer.apply(gradient, norm)
        return norm

    def _scheduled(self, policy_step: int) -> tuple[float, float]:
        """(rho, eta) at this policy step."""
        config = self.config.behavior
        progress = policy_step / config.schedule_policy_steps
        return (
            linear_schedule(config.reinforce_share, config.reinforce_share_end, progress),
            linear_schedule(config.entropy_scale, config.entropy_scale_end, progress),
        )


def to_tensors(batch: Batch, device: torch.device) -> TensorBatch:
    """Copies a batch to the device; wire arrays are read-only and stay untouched."""

    def copied(array: Any) -> Tensor:
        return torch.tensor(array, device=device)

    return TensorBatch(
        image=copied(batch.image),
        prev_action=copied(batch.prev_action),
        reward=copied(batch.reward),
        is_first=copied(batch.is_first),
        is_terminal=copied(batch.is_terminal),
    )


def _optimizer(module: nn.Module, config: Any) -> Optimizer:
    return Optimizer(list(module.parameters()), config)


@torch.no_grad()
def _world_model_metrics(
    model: WorldModel, loss: WorldModelLoss, data: TensorBatch
) -> dict[str, Tensor]:
    latent, observed = model.rssm.latent, loss.observed
    pixels = data.image[0, 0].numel()
    metrics = {f"dreamer_{name}_loss": term.detach() for name, term in loss.terms.items()}
    return metrics | {
        "dreamer_world_model_loss": loss.total.detach(),
        "dreamer_image_mean_squared_error": 2 * loss.terms["image"].detach() / pixels,
        "dreamer_kl_nats": latent.kl(observed.posterior, observed.prior).mean(),
        "dreamer_prior_entropy_nats": latent.entropy(observed.prior).mean(),
        "dreamer_posterior_entropy_nats": latent.entropy(observed.posterior).mean(),
    }


def _behavior_metrics(loss: BehaviorLoss, share: float, scale: float) -> dict[str, Tensor]:
    return {
        "dreamer_actor_loss": loss.actor.detach(),
        "dreamer_critic_loss": loss.critic.detach(),
        "dreamer_actor_entropy_nats": loss.actor_entropy,
        "dreamer_actor_target_mean": loss.target.mean(),
        "dreamer_value_mean": loss.value.mean(),
        "dreamer_imagined_reward_mean": loss.reward.mean(),
        "dreamer_imagined_discount_mean": loss.discount.mean(),
        "dreamer_reinforce_share": torch.tensor(share),
        "dreamer_entropy_scale": torch.tensor(scale),
    }
