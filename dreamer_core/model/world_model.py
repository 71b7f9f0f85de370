"""World model: encoder, RSSM and heads, and their joint loss (DreamerV2, eq. 1 and 2, Alg. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_core.config import WorldModelConfig
from dreamer_core.model.distributions import Latent
from dreamer_core.model.networks import (
    MLP,
    Features,
    ImageDecoder,
    ImageEncoder,
    OneHotFeatures,
    image_to_float,
)
from dreamer_core.model.rssm import RSSM, Observed


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A Batch on the learner's device; shapes as in types.Batch, images still uint8."""

    image: Tensor
    prev_action: Tensor
    reward: Tensor
    is_first: Tensor
    is_terminal: Tensor


@dataclass(frozen=True, slots=True)
class WorldModelLoss:
    """The loss of eq. 2, its terms, and the states that behaviour learning starts from."""

    total: Tensor
    """Scalar to minimise."""
    terms: dict[str, Tensor]
    """Scalars by name: image, reward, discount, kl. Unweighted; Gaussians without constants."""
    observed: Observed
    image_mean: Tensor
    """[B, T, 64, 64, channels]."""
    reward_mean: Tensor
    """[B, T], of the transformed reward."""
    discount_logit: Tensor | None
    """[B, T]; None without a discount head."""


def balanced_kl(
    latent: Latent, posterior: Tensor, prior: Tensor, *, balance: float, free_nats: float
) -> Tensor:
    """KL(q || p) whose gradient trains the prior more than the posterior (Algorithm 2).

        alpha * KL(sg(q) || p) + (1 - alpha) * KL(q || sg(p))

    Args:
        latent: the family of both.
        posterior: stats of q [B, T, S, P].
        prior: stats of p [B, T, S, P].
        balance: alpha; 0.5 gives half the ordinary KL's gradient to each side.
        free_nats: a mean below this is not penalised.

    Returns:
        Scalar in nats: summed over S, averaged over B and T.
    """
    to_prior = latent.kl(posterior.detach(), prior).mean()
    to_posterior = latent.kl(posterior, prior.detach()).mean()
    if free_nats > 0:
        to_prior, to_posterior = (x.clamp(min=free_nats) for x in (to_prior, to_posterior))
    return balance * to_prior + (1 - balance) * to_posterior


class WorldModel(nn.Module):
    """Predicts images, rewards and discounts from latent states.

    Args:
        config: sizes and loss weights.
        channels: of the images.
        action_size: A.
        discount: gamma, target of the discount head where the episode goes on.
    """

    def __init__(
        self, config: WorldModelConfig, *, channels: int, action_size: int, discount: float
    ) -> None:
        super().__init__()
        self.config = config
        self.gamma = discount
        self.encoder = ImageEncoder(channels, config.conv_depth)
        self.rssm = RSSM(config, self.encoder.size, action_size)
        feat_size, layers, units = self.rssm.feat_size, config.head_layers, config.head_units
        self.decoder = ImageDecoder(feat_size, channels, config.conv_depth)
        self.reward_head = MLP(feat_size, layers, units, 1)
        has_discount = config.has_discount_head
        self.discount_head = MLP(feat_size, layers, units, 1) if has_discount else None

    def transform_reward(self, reward: Tensor) -> Tensor:
        """The reward that is learned: tanh(r) on Atari, r on continuous control."""
        return reward.tanh() if self.config.reward_transform == "tanh" else reward

    def discount_target(self, is_terminal: Tensor) -> Tensor:
        """gamma * (1 - is_terminal); a time limit is no terminal and keeps gamma."""
        return self.gamma * (~is_terminal).float()

    def predict_reward(self, feat: Features) -> Tensor:
        """Mean of the reward head, float32, [..., F] to [...]."""
        return self.reward_head(feat).float().squeeze(-1)

    def predict_discount(self, feat: Features) -> Tensor:
        """Mean of the discount head, a probability that contains gamma; [..., F] to [...]."""
        if self.discount_head is None:
            deter = feat.deter if isinstance(feat, OneHotFeatures) else feat
            return deter.new_full(deter.shape[:-1], self.gamma)
        return self.discount_head(feat).float().squeeze(-1).sigmoid()

    def observe(self, batch: TensorBatch, noise: Tensor) -> Observed:
        """Encodes and filters a batch; `noise` as in RSSM.observe."""
        embed = self.encode(batch.image)
        return self.rssm.observe(embed, batch.prev_action, batch.is_first, noise)

    def encode(self, image: Tensor) -> Tensor:
        """Embeds uint8 images [..., 64, 64, channels] as [..., E]."""
        return self.encoder(image_to_float(image))

    def loss(self, batch: TensorBatch, noise: Tensor) -> WorldModelLoss:
        """Loss of eq. 2, averaged over B and T.

            -ln p(image) - s_r * ln p(reward) - s_d * ln p(discount) + beta * KL

        The Gaussian terms leave out their constant 0.5 * ln(2 pi) per dimension (3763.9 nats for
        a grayscale image), which would hide the learning in the number.
        """
        return self.loss_of(batch, self.observe(batch, noise))

    def loss_of(self, batch: TensorBatch, observed: Observed) -> WorldModelLoss:
        """Heads and loss on observed states; see `loss`."""
        config = self.config
        feat = observed.state.feat
        image_mean = self.decoder(feat if config.has_image_gradients else feat.detach()).float()
        reward_feat = feat if config.has_reward_gradients else feat.detach()
        reward_mean = self.predict_reward(reward_feat)
        target = image_to_float(batch.image)
        terms = {
            "image": 0.5 * (target - image_mean).square().sum((-3, -2, -1)).mean(),
            "reward": 0.5 * (self.transform_reward(batch.reward) - reward_mean).square().mean(),
            "kl": balanced_kl(
                self.rssm.latent,
                observed.posterior,
                observed.prior,
                balance=config.kl_balance,
                free_nats=config.free_nats,
            ),
        }
        total = terms["image"] + config.reward_loss_scale * terms["reward"]
        total = total + config.kl_scale * terms["kl"]
        discount_logit = None
        if self.discount_head is not None:
            discount_logit = self.discount_head(feat).float().squeeze(-1)
            terms["discount"] = F.binary_cross_entropy_with_logits(
                discount_logit, self.discount_target(batch.is_terminal)
            )
            total = total + config.discount_loss_scale * terms["discount"]
        return WorldModelLoss(total, terms, observed, image_mean, reward_mean, discount_logit)

    @torch.no_grad()
    def open_loop(self, batch: TensorBatch, noise: Tensor, *, context: int) -> Tensor:
        """Reconstructs the first `context` images and imagines the rest from the actions alone.

        Args:
            batch: [B, T]; no reset may lie behind the context.
            noise: of T samples, as in RSSM.observe.
            context: number of images that the model sees, 1 to T - 1.

        Returns:
            Image means [B, T, 64, 64, channels] around zero.
        """
        seen = TensorBatch(
            batch.image[:, :context],
            batch.prev_action[:, :context],
            batch.reward[:, :context],
            batch.is_first[:, :context],
            batch.is_terminal[:, :context],
        )
        observed = self.observe(seen, noise[:, :context])
        state = type(observed.state)(observed.state.deter[:, -1], observed.state.stoch[:, -1])
        feats = [observed.state.feat]
        for t in range(context, batch.image.shape[1]):
            state = self.rssm.imagine_step(state, batch.prev_action[:, t], noise[:, t])
            feats.append(state.feat.unsqueeze(1))
        return self.decoder(torch.cat(feats, 1)).float()
