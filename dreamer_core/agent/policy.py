"""The part of the agent that acts: encoder, posterior and actor, one observation at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.model.actions import make_actions
from dreamer_core.model.distributions import seeded_generator
from dreamer_core.model.networks import MLP, ImageEncoder, VectorEncoder, image_to_float
from dreamer_core.model.rssm import RSSM, RSSMState
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array, WeightsSnapshot

ActionMode = Literal["sample", "greedy"]
"""`sample` draws from the actor, `greedy` takes its mode; the latent is sampled in both."""

_UNUSED_IN_POLICY = ("rssm.prior_hidden.", "rssm.prior_stats.")


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What the policy remembers between two steps of an episode."""

    model: RSSMState
    """Posterior state [1, ...] at the previous image."""
    action: Tensor
    """Action taken there [1, A]; becomes prev_action of the next row."""


class PolicyNetwork(nn.Module):
    """Acts from images with the weights of the newest snapshot.

    Args:
        config: of the run.
        spec: of the environment.
    """

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = ImageEncoder(spec.image_shape[-1], config.world_model.conv_depth)
        layers, units = config.world_model.head_layers, config.world_model.head_units
        has_vector = spec.vector_size > 0
        self.vector_encoder = VectorEncoder(spec.vector_size, layers, units) if has_vector else None
        embed_size = self.encoder.size + (units if has_vector else 0)
        self.rssm = RSSM(config.world_model, embed_size, spec.action_size)
        self.actions = make_actions(
            spec.action_size, is_discrete=spec.is_discrete, classes=spec.action_classes
        )
        behavior = config.behavior
        self.actor = MLP(
            self.rssm.feat_size, behavior.layers, behavior.units, self.actions.params_size
        )
        self.requires_grad_(False)
        self._lay_out()

    @staticmethod
    def needed(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Selects what acting needs from an agent's `encoder.`, `rssm.` and `actor.` weights."""
        return {k: v for k, v in params.items() if not k.startswith(_UNUSED_IN_POLICY)}

    def load(self, weights: WeightsSnapshot) -> None:
        """Takes over the weights of a snapshot.

        Raises:
            BadInput: the snapshot is of another model.
        """
        wanted = self.needed(dict(self.named_parameters()))
        shapes = {name: tuple(value.shape) for name, value in wanted.items()}
        got = {name: tuple(value.shape) for name, value in weights.params.items()}
        if shapes != got:
            differing = sorted(set(shapes.items()) ^ set(got.items()))[:4]
            raise BadInput(
                f"The weights of gradient step {weights.version} do not fit this policy; "
                f"they differ in {differing}. Use the config that the run was started with"
            )
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(torch.from_numpy(np.array(weights.params[name])))

    def _lay_out(self) -> None:
        """Stores weights in the order in which acting reads them; `load` keeps it."""
        for convolution in self.encoder.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            weight = convolution.weight.data.permute(2, 3, 1, 0).contiguous()
            convolution.weight.data = weight.permute(3, 2, 0, 1)
        first = self.actor.hidden[0]
        for layer in (self.rssm.input, first):  # these read the one-hot z column by column
            assert isinstance(layer, nn.Linear)
            layer.weight.data = layer.weight.data.t().contiguous().t()

    def initial(self) -> PolicyState:
        """The zero state at the start of an episode."""
        action = self.rssm.input.weight.new_zeros(1, self.spec.action_size)
        return PolicyState(self.rssm.initial(1), action)

    def state_of(self, deter: FloatArray, stoch: FloatArray, action: FloatArray) -> PolicyState:
        """Rebuilds a state from its h [1, D], z [1, Z] and previous action [1, A]."""
        device = self.rssm.input.weight.device
        h, z, a = (torch.from_numpy(np.array(x)).to(device) for x in (deter, stoch, action))
        state = RSSMState(h, z)
        is_sampled = bool(z.any())  # else it is the zero state, in which no z is one
        return PolicyState(self.rssm.located(state) if is_sampled else state, a)

    def embed(self, image: Tensor, vector: Tensor | None) -> Tensor:
        """Embeds uint8 images [..., 64, 64, channels] and vectors [..., V] as [..., E]."""
        embed = self.encoder(image_to_float(image))
        if self.vector_encoder is None:
            return embed
        assert vector is not None
        return torch.cat([embed, self.vector_encoder(vector)], -1)

    @torch.inference_mode()
    def act(
        self,
        state: PolicyState,
        image: UInt8Array,
        generator: torch.Generator,
        mode: ActionMode,
        vector: FloatArray | None = None,
    ) -> tuple[FloatArray, PolicyState]:
        """Returns the action [A] for an image [64, 64, channels] and the next state.

        Args:
            state: from `initial` or the previous call.
            image: as the environment gave it.
            generator: of the latent's and the action's noise.
            mode: how the action is chosen.
            vector: [V], where the environment gives one.
        """
        latent_noise, action_noise = self.noise(generator, mode)
        numbers = None if vector is None else torch.from_numpy(vector)
        state = self.next(state, torch.from_numpy(image), latent_noise, action_noise, numbers)
        return state.action[0].numpy(), state

    def noise(self, generator: torch.Generator, mode: ActionMode) -> tuple[Tensor, Tensor | None]:
        """Draws that of a step's latent [1, ...] and of its action [1, ...]; None if greedy."""
        latent_noise = self.rssm.latent.noise((1,), generator)
        return latent_noise, self.actions.noise((1,), generator) if mode == "sample" else None

    def next(
        self,
        state: PolicyState,
        image: Tensor,
        latent_noise: Tensor,
        action_noise: Tensor | None,
        vector: Tensor | None,
    ) -> PolicyState:
        """Returns the state at an image [64, 64, channels] and the action chosen there.

        Args:
            state: at the image before.
            image: uint8.
            latent_noise: see `noise`.
            action_noise: of the action; None takes the mode.
            vector: [V], where the environment gives one.
        """
        numbers = None if vector is None else vector[None, None]
        embed = self.embed(image[None, None], numbers)  # [1, 1, E]
        model = self.rssm.located(
            self.rssm.observe_step(state.model, state.action, embed[:, 0], latent_noise)
        )
        params = self.actor(model.features)
        if action_noise is None:
            return PolicyState(model, self.actions.mode(params))
        return PolicyState(model, self.actions.sample(params, action_noise))


def step_generator(*words: int) -> torch.Generator:
    """Generator of one policy step's noise, keyed by (seed, incarnation, episode, step)."""
    return seeded_generator(torch.device("cpu"), *words)
