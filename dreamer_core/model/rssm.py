"""Recurrent state-space model: the latent dynamics of DreamerV2 (sec. 2.1, eq. 1).

    recurrent model  h_t = f(h_{t-1}, z_{t-1}, a_{t-1})      deter [..., D]
    representation   z_t ~ q(z_t | h_t, x_t)                 posterior sample, stoch [..., Z]
    transition       z_t ~ p(z_t | h_t)                      prior

Time alignment of `observe` (row t as in types.py):

    embed_t, prev_action_t --> h_t = f(h_{t-1}, z_{t-1}, prev_action_t) --> posterior_t, prior_t
    is_first_t zeroes h_{t-1}, z_{t-1} and prev_action_t beforehand
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_core.config import WorldModelConfig
from dreamer_core.model.distributions import CategoricalLatent, GaussianLatent, Latent
from dreamer_core.model.networks import Features, GRUCell, OneHotFeatures, dense
from dreamer_core.model.operators import add_columns
from dreamer_core.model.scan import ScanSteps, ScanWeights, observe_scan


@dataclass(frozen=True, slots=True)
class RSSMState:
    """The model state s = (h, z); `feat` is what every head reads."""

    deter: Tensor
    """h [..., D]."""
    stoch: Tensor
    """z, flattened [..., Z]."""
    position: Tensor | None = None
    """Where z is one, [..., S], if it is one-hot, not differentiated and on a CPU."""

    @property
    def feat(self) -> Tensor:
        """The feature [..., D + Z]."""
        return torch.cat([self.deter, self.stoch], -1)

    @property
    def features(self) -> Features:
        """The same in the form that costs a head least."""
        if self.position is None:
            return self.feat
        return OneHotFeatures(self.deter, self.position)

    def at(self, t: int) -> RSSMState:
        """Row t, [B, ...], of states [B, T, ...]."""
        return RSSMState(self.deter[:, t], self.stoch[:, t])

    def detach(self) -> RSSMState:
        """The same state without gradients."""
        return RSSMState(self.deter.detach(), self.stoch.detach())


@dataclass(frozen=True, slots=True)
class Observed:
    """What `RSSM.observe` returns; all [B, T, ...]."""

    state: RSSMState
    posterior: Tensor
    """Stats of q [B, T, S, P]."""
    prior: Tensor
    """Stats of p [B, T, S, P]."""


def make_latent(config: WorldModelConfig) -> Latent:
    """Returns the configured family of latent variables."""
    if config.latent == "categorical":
        return CategoricalLatent(config.stoch, config.classes)
    return GaussianLatent(config.stoch)


class RSSM(nn.Module):
    """Recurrent, representation and transition model.

    Args:
        config: sizes.
        embed_size: E, width of the image embedding.
        action_size: A.
    """

    def __init__(self, config: WorldModelConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.latent = make_latent(config)
        self.deter_size = config.deter
        self.feat_size = config.deter + self.latent.size
        stats = self.latent.stats_shape[0] * self.latent.stats_shape[1]
        self.input = dense(self.latent.size + action_size, config.hidden)  # reads [z, a]
        self.cell = GRUCell(
            config.hidden,
            config.deter,
            has_layer_norm=config.has_layer_norm,
            memory_rows=config.memory_rows,
        )
        self.prior_hidden = dense(config.deter, config.hidden)
        self.prior_stats = dense(config.hidden, stats)
        self.posterior_hidden = dense(config.deter + embed_size, config.hidden)  # reads [h, e]
        self.posterior_stats = dense(config.hidden, stats)
        self.scan_steps = ScanSteps()

    def initial(self, batch_size: int) -> RSSMState:
        """The zero state [B, ...] before the first row of a sequence."""
        zeros = self.input.weight.new_zeros
        return RSSMState(
            zeros(batch_size, self.deter_size),
            zeros(batch_size, self.latent.size),
        )

    def prior(self, deter: Tensor) -> Tensor:
        """Stats of p(z | h) [..., S, P] from h [..., D]."""
        flat = self._stats(self.prior_stats, self.prior_hidden(deter.reshape(-1, deter.shape[-1])))
        return flat.view(*deter.shape[:-1], *flat.shape[1:])

    def observe(
        self, embed: Tensor, prev_action: Tensor, is_first: Tensor, noise: Tensor
    ) -> Observed:
        """Filters a batch of sequences from the zero state, sampling every posterior.

        Only what depends on the recurrence stays inside the scan: the parts of the input and
        posterior layers that read action and embedding, and the whole prior, run once over all T.

        Args:
            embed: e_t [B, T, E].
            prev_action: a_{t-1} [B, T, A].
            is_first: [B, T]; the state before such a row is zeroed.
            noise: of the posterior samples [B, T, ...], see `Latent.noise`.
        """
        keep = (~is_first).float().unsqueeze(-1)  # [B, T, 1]
        action_part, stoch_weight = self._action_part(prev_action * keep)
        embed_part, deter_weight = self._embed_part(embed)
        norm = self.cell.norm
        if norm is None or type(self.latent) is not CategoricalLatent:
            return self._observe_plain(
                keep, action_part, embed_part, noise, weights=(stoch_weight, deter_weight)
            )
        weights = ScanWeights(
            stoch=stoch_weight,
            gates=self.cell.gates.weight,
            gates_bias=self.cell.gates.bias,
            norm=norm.weight,
            norm_bias=norm.bias,
            deter=deter_weight,
            stats=self.posterior_stats.weight,
            stats_bias=self.posterior_stats.bias,
        )
        scanned = observe_scan(
            keep, action_part, embed_part, noise, weights, epsilon=norm.eps, steps=self.scan_steps
        )
        state = RSSMState(scanned.deter, scanned.stoch)
        return Observed(state, scanned.logits, self.prior(state.deter))

    def _observe_plain(
        self,
        keep: Tensor,
        action_part: Tensor,
        embed_part: Tensor,
        noise: Tensor,
        *,
        weights: tuple[Tensor, Tensor],
    ) -> Observed:
        """The recurrence under autograd, for any latents and cell; see scan.py for the other."""
        stoch_weight, deter_weight = weights
        state = self.initial(len(keep))
        deters: list[Tensor] = []
        stochs: list[Tensor] = []
        posteriors: list[Tensor] = []
        steps = zip(
            keep.unbind(1),
            action_part.unbind(1),
            embed_part.unbind(1),
            noise.unbind(1),
            strict=True,
        )
        for keep_t, action_t, embed_t, noise_t in steps:
            x = F.elu(action_t + F.linear(state.stoch * keep_t, stoch_weight), inplace=True)
            deter = self.cell(x, state.deter * keep_t)
            posterior = self._stats(self.posterior_stats, embed_t + F.linear(deter, deter_weight))
            state = RSSMState(deter, self.latent.sample(posterior, noise_t))
            deters.append(state.deter)
            stochs.append(state.stoch)
            posteriors.append(posterior)
        states = RSSMState(torch.stack(deters, 1), torch.stack(stochs, 1))
        return Observed(states, torch.stack(posteriors, 1), self.prior(states.deter))

    def observe_step(
        self, state: RSSMState, prev_action: Tensor, embed: Tensor, noise: Tensor
    ) -> RSSMState:
        """Draws s_t ~ q(. | s_{t-1}, a_{t-1}, x_t) for one time step, as a policy does.

        Args:
            state: s_{t-1} [B, ...].
            prev_action: a_{t-1} [B, A].
            embed: e_t [B, E].
            noise: of the posterior sample [B, ...].
        """
        deter = self.cell(self._input(state, prev_action), state.deter)
        hidden = self.posterior_hidden(torch.cat([deter, embed], -1))
        posterior = self._stats(self.posterior_stats, hidden)
        return RSSMState(deter, self.latent.sample(posterior, noise))

    def imagine_step(self, state: RSSMState, action: Tensor, noise: Tensor) -> RSSMState:
        """Draws s_{t+1} ~ p(. | s_t, a_t) with action a_t [..., A] (sec. 2.2).

        From a located state it draws a located one, which no gradient passes.
        """
        deter = self.cell(self._input(state, action), state.deter)
        prior = self.prior(deter)
        if state.position is not None:
            return RSSMState(deter, *self.latent.sample_at(prior, noise))
        return RSSMState(deter, self.latent.sample(prior, noise))

    def imagine(self, state: RSSMState, prev_action: Tensor, noise: Tensor) -> RSSMState:
        """Draws the states that given actions lead to, seeing no image: s_t from s_{t-1}.

        Args:
            state: before the first of them, [B, ...], not located.
            prev_action: a_{t-1} [B, T, A].
            noise: of the prior samples [B, T, ...].

        Returns:
            s_t [B, T, ...].
        """
        states: list[RSSMState] = []
        for action_t, noise_t in zip(prev_action.unbind(1), noise.unbind(1), strict=True):
            state = self.imagine_step(state, action_t, noise_t)
            states.append(state)
        deter = torch.stack([state.deter for state in states], 1)
        return RSSMState(deter, torch.stack([state.stoch for state in states], 1))

    def located(self, state: RSSMState) -> RSSMState:
        """Notes where a sampled z is one, which makes later layers cheaper on CPUs.

        Args:
            state: drawn from this model, not a zero state; not to be differentiated.

        Returns:
            The same state; unchanged on other devices and for Gaussian latents.
        """
        if state.stoch.is_cuda:
            return state
        return RSSMState(state.deter, state.stoch, self.latent.position(state.stoch))

    def _input(self, state: RSSMState, action: Tensor) -> Tensor:
        """The cell's input [..., hidden] from z and an action."""
        if state.position is None:
            return F.elu(self.input(torch.cat([state.stoch, action], -1)), inplace=True)
        action_part, stoch_weight = self._action_part(action)
        return F.elu(add_columns(action_part, state.position, stoch_weight), inplace=True)

    def _action_part(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """The input layer's action part [..., hidden] and its weight for z."""
        stoch_weight, action_weight = self.input.weight.tensor_split([self.latent.size], 1)
        return F.linear(action, action_weight, self.input.bias), stoch_weight

    def _embed_part(self, embed: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior layer's embedding part [..., hidden] and its weight for h."""
        layer = self.posterior_hidden
        deter_weight, embed_weight = layer.weight.tensor_split([self.deter_size], 1)
        return F.linear(embed, embed_weight, layer.bias), deter_weight

    def _stats(self, layer: nn.Linear, hidden: Tensor) -> Tensor:
        """Stats [..., S, P] in float32 from the hidden layer before ELU, which it overwrites."""
        inputs = F.elu(hidden, inplace=True).float()
        with torch.autocast(hidden.device.type, enabled=False):
            return layer(inputs).unflatten(-1, self.latent.stats_shape)
