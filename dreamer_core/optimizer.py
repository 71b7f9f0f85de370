"""The released code's update rule: clip by global norm, decay, Adam, in this order.

    g     <- g * min(1, clip / |g|)
    w     <- w * (1 - weight_decay)                       not scaled by the learning rate
    m     <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2
    w     <- w - lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)

As in the released code's framework epsilon stands beside the *uncorrected* sqrt(v), so that it
damps early steps more than torch's Adam does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dreamer_core.config import OptimizerConfig

_BETA_1 = 0.9
_BETA_2 = 0.999


class Optimizer:
    """Updates parameters that it lays out in one flat buffer, so that a step is few operations.

    Args:
        parameters: each keeps its shape and becomes a view into the buffer.
        config: rates.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = list(parameters)
        self._flat = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self._first_moment = torch.zeros_like(self._flat)
        self._second_moment = torch.zeros_like(self._flat)
        self._num_updates = 0
        offset = 0
        for parameter in self.parameters:
            part = self._flat[offset : offset + parameter.numel()]
            parameter.data = part.view(parameter.shape)
            offset += parameter.numel()

    def gradient(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiates the loss with respect to these parameters and no others.

        Returns:
            The flat gradient and its global norm (scalar), before clipping.
        """
        parts = torch.autograd.grad(loss, self.parameters)
        flat = torch.cat([part.reshape(-1) for part in parts])
        return flat, torch.linalg.vector_norm(flat)

    @torch.no_grad()
    def apply(self, gradient: Tensor, norm: Tensor) -> None:
        """Takes one step with a gradient and norm from `gradient`; overwrites the gradient."""
        config = self.config
        self._num_updates += 1
        gradient.mul_((config.clip_norm / norm).clamp(max=1.0))
        self._first_moment.lerp_(gradient, 1 - _BETA_1)
        self._second_moment.mul_(_BETA_2).addcmul_(gradient, gradient, value=1 - _BETA_2)
        correction = (1 - _BETA_2**self._num_updates) ** 0.5 / (1 - _BETA_1**self._num_updates)
        denominator = self._second_moment.sqrt().add_(config.epsilon)
        self._flat.mul_(1 - config.weight_decay)
        self._flat.addcdiv_(
            self._first_moment, denominator, value=-config.learning_rate * correction
        )

    def state(self) -> dict[str, Any]:
        """Moments and update count; the parameters belong to their modules."""
        return {
            "first_moment": self._first_moment,
            "second_moment": self._second_moment,
            "num_updates": self._num_updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            ValueError: the state belongs to a model of another size.
        """
        wanted, got = self._flat.numel(), state["first_moment"].numel()
        if wanted != got:
            raise ValueError(
                f"The optimiser has {wanted} parameters but its saved state has {got}: the "
                "checkpoint is of a model of another size; resume with the config it was made with"
            )
        self._first_moment.copy_(state["first_moment"])
        self._second_moment.copy_(state["second_moment"])
        self._num_updates = int(state["num_updates"])
