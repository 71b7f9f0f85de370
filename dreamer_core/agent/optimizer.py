"""The released code's update rule: clip by global norm, decay, Adam, in this order.

    g     <- g * min(1, clip / |g|)
    w     <- w * (1 - weight_decay)                       not scaled by the learning rate
    m     <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2
    w     <- w - lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)

As in the released code's framework epsilon stands beside the *uncorrected* sqrt(v), so that it
damps early steps more than torch's Adam does.

Nothing here waits for the device: whether a step is good is a tensor, and one that is not leaves
everything as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dreamer_core.config import OptimizerConfig
from dreamer_core.errors import BadInput

_BETA_1 = 0.9


def gradients(optimizers: Sequence[Optimizer], loss: Tensor) -> list[Tensor]:
    """Differentiates a loss with respect to the parameters of several optimisers in one pass.

    Returns:
        For each its flat gradient.
    """
    parts = iter(torch.autograd.grad(loss, [p for opt in optimizers for p in opt.parameters]))
    return [
        torch.cat([next(parts).reshape(-1) for _ in optimizer.parameters])
        for optimizer in optimizers
    ]


def lay_out(parameters: Sequence[nn.Parameter], flat: Tensor) -> None:
    """Makes parameters views into a flat buffer, whose numbers they take; each keeps its shape."""
    parts = flat.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)


class Optimizer:
    """Updates parameters that it lays out in one flat buffer, so that a step is few operations.

    Args:
        parameters: each keeps its shape and becomes a view into the buffer.
        config: rates.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = list(parameters)
        self.move_to(torch.cat([p.detach().reshape(-1) for p in self.parameters]))
        self._first_moment = torch.zeros_like(self._flat)
        self._second_moment = torch.zeros_like(self._flat)
        self._num_updates = torch.zeros((), dtype=torch.int64, device=self._flat.device)

    def move_to(self, flat: Tensor) -> None:
        """Makes the parameters views into another flat buffer, whose numbers they take."""
        lay_out(self.parameters, flat)
        self._flat = flat

    def gradient(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiates the loss with respect to these parameters and no others.

        Returns:
            The flat gradient and its global norm (scalar), before clipping.
        """
        (gradient,) = gradients([self], loss)
        return gradient, torch.linalg.vector_norm(gradient)

    @torch.no_grad()
    def apply(self, gradient: Tensor, norm: Tensor, is_good: Tensor | None = None) -> None:
        """Takes one step with a gradient and norm from `gradient`; overwrites the gradient.

        Args:
            gradient: flat.
            norm: scalar.
            is_good: boolean scalar; if false nothing changes. None is true.
        """
        config = self.config
        if is_good is None:
            is_good = torch.ones_like(self._num_updates, dtype=torch.bool)
        share = is_good.float()  # 0 makes every line below the identity
        self._num_updates += is_good
        count = self._num_updates.double().clamp(min=1)
        correction = (1 - config.beta_2**count).sqrt() / (1 - _BETA_1**count)
        gradient.mul_((config.clip_norm / norm).clamp(max=1.0))
        gradient.masked_fill_(~is_good, 0.0)
        self._first_moment.lerp_(gradient, (1 - _BETA_1) * share)
        self._second_moment.lerp_(gradient.square_(), (1 - config.beta_2) * share)
        step = self._first_moment / self._second_moment.sqrt().add_(config.epsilon)
        self._flat.mul_(1 - config.weight_decay * share)
        self._flat.sub_(step.mul_(config.learning_rate * correction.float() * share))

    def state(self) -> dict[str, Any]:
        """Moments and update count; the parameters belong to their modules."""
        return {
            "first_moment": self._first_moment,
            "second_moment": self._second_moment,
            "num_updates": int(self._num_updates),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            BadInput: the state belongs to a model of another size.
        """
        wanted, got = self._flat.numel(), state["first_moment"].numel()
        if wanted != got:
            raise BadInput(
                f"The optimiser has {wanted} parameters but its saved state has {got}: the "
                "checkpoint is of a model of another size; resume with the config it was made with"
            )
        self._first_moment.copy_(state["first_moment"])
        self._second_moment.copy_(state["second_moment"])
        self._num_updates.fill_(int(state["num_updates"]))

    def buffers(self) -> list[Tensor]:
        """Every tensor that `apply` changes."""
        return [self._flat, self._first_moment, self._second_moment, self._num_updates]
