"""World model: encoder, RSSM and heads, and their joint loss (DreamerV2, eq. 1 and 2, Alg. 2)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_core.bars import bars
from dreamer_core.config import WorldModelConfig
from dreamer_core.model.distributions import Latent
from dreamer_core.model.networks import (
    MLP,
    Features,
    ImageDecoder,
    ImageEncoder,
    OneHotFeatures,
    VectorEncoder,
    image_to_float,
)
from dreamer_core.model.rssm import RSSM, Observed
from dreamer_core.types import FloatArray


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A Batch on the learner's device; shapes as in types.Batch, images still uint8."""

    image: Tensor
    prev_action: Tensor
    reward: Tensor
    is_first: Tensor
    is_terminal: Tensor
    vector: Tensor | None = None

    def columns(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in columns.items() if column is not None}


@dataclass(frozen=True, slots=True)
class Decoded:
    """Means that the decoders give; of unit variance."""

    image: Tensor | None
    """[..., 64, 64, channels] around zero; None where no image is observed."""
    vector: Tensor | None
    """[..., V]; None where no vector is observed."""

    def picture(self) -> FloatArray:
        """Returns what to show of it, [..., 64, 64, C] in [0, 1]: without an image its bars."""
        if self.image is not None:
            return (self.image + 0.5).clamp(0, 1).cpu().numpy()
        assert self.vector is not None
        return bars(self.vector.cpu().numpy()).astype(np.float32) / np.float32(255)


@dataclass(frozen=True, slots=True)
class WorldModelLoss:
    """The loss of eq. 2, its terms, and the states that behaviour learning starts from."""

    total: Tensor
    """Scalar to minimise."""
    terms: dict[str, Tensor]
    """Scalars by name: image, vector, reward, discount, kl; those of what there is. Unweighted;
    Gaussians without constants."""
    observed: Observed
    image_mean: Tensor | None
    """[B, T, 64, 64, channels]; None where no image is observed."""
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
        balance: alpha; 0.5 is the ordinary KL with its whole gradient to both sides, as in the
            released code, and not the mixture, which would give each side half of it.
        free_nats: a mean below this is not penalised.

    Returns:
        Scalar in nats: summed over S, averaged over B and T.
    """
    if balance == 0.5:
        kl = latent.kl(posterior, prior).mean()
        return kl.clamp(min=free_nats) if free_nats > 0 else kl
    to_prior = latent.kl(posterior.detach(), prior).mean()
    to_posterior = latent.kl(posterior, prior.detach()).mean()
    if free_nats > 0:
        to_prior, to_posterior = (x.clamp(min=free_nats) for x in (to_prior, to_posterior))
    return balance * to_prior + (1 - balance) * to_posterior


class WorldModel(nn.Module):
    """Predicts images, vectors, rewards and discounts from latent states.

    A vector has an encoder and a decoder of `head_layers` layers of `head_units`, which are the
    4 x 400 of the released code; its embedding follows the image's.

    Args:
        config: sizes and loss weights.
        channels: of the images; 0 where none is observed.
        action_size: A.
        discount: gamma, target of the discount head where the episode goes on.
        vector_size: V; 0 where no vector is observed.
    """

    def __init__(
        self,
        config: WorldModelConfig,
        *,
        channels: int,
        action_size: int,
        discount: float,
        vector_size: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.gamma = discount
        layers, units, has_vector = config.head_layers, config.head_units, vector_size > 0
        self.encoder = ImageEncoder(channels, config.conv_depth)
        self.vector_encoder = VectorEncoder(vector_size, layers, units) if has_vector else None
        embed_size = self.encoder.size + (units if has_vector else 0)
        self.rssm = RSSM(config, embed_size, action_size)
        feat_size = self.rssm.feat_size
        self.decoder = ImageDecoder(feat_size, channels, config.conv_depth) if channels else None
        self.vector_decoder = MLP(feat_size, layers, units, vector_size) if has_vector else None
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
        embed = self.encode(batch.image, batch.vector)
        return self.rssm.observe(embed, batch.prev_action, batch.is_first, noise)

    def encode(self, image: Tensor, vector: Tensor | None = None) -> Tensor:
        """Embeds uint8 images [..., 64, 64, channels] and vectors [..., V] as [..., E]."""
        embed = self.encoder(image_to_float(image))
        if self.vector_encoder is None:
            return embed
        return torch.cat([embed, self.vector_encoder(vector)], -1)

    def decode(self, feat: Tensor) -> Decoded:
        """Means of image and vector, float32, of features [..., F]."""
        image, vector = self.decoder, self.vector_decoder
        return Decoded(
            None if image is None else image(feat).float(),
            None if vector is None else vector(feat).float(),
        )

    def loss(self, batch: TensorBatch, noise: Tensor) -> WorldModelLoss:
        """Loss of eq. 2, averaged over B and T.

            -ln p(image) - ln p(vector) - s_r * ln p(reward) - s_d * ln p(discount) + beta * KL

        The Gaussian terms leave out their constant 0.5 * ln(2 pi) per dimension (3764.0 nats for
        a grayscale image), which would hide the learning in the number.
        """
        return self.loss_of(batch, self.observe(batch, noise))

    def loss_of(self, batch: TensorBatch, observed: Observed) -> WorldModelLoss:
        """Heads and loss on observed states; see `loss`."""
        config = self.config
        feat = observed.state.feat
        decoded = self.decode(feat if config.has_image_gradients else feat.detach())
        terms = _reconstruction(batch, decoded)
        reward_feat = feat if config.has_reward_gradients else feat.detach()
        reward_mean = self.predict_reward(reward_feat)
        first, *others = terms.values()
        total = sum(others, first)
        terms |= {
            "reward": 0.5 * (self.transform_reward(batch.reward) - reward_mean).square().mean(),
            "kl": balanced_kl(
                self.rssm.latent,
                observed.posterior,
                observed.prior,
                balance=config.kl_balance,
                free_nats=config.free_nats,
            ),
        }
        total = total + config.reward_loss_scale * terms["reward"]
        total = total + config.kl_scale * terms["kl"]
        discount_logit = None
        if self.discount_head is not None:
            discount_logit = self.discount_head(feat).float().squeeze(-1)
            terms["discount"] = F.binary_cross_entropy_with_logits(
                discount_logit, self.discount_target(batch.is_terminal)
            )
            total = total + config.discount_loss_scale * terms["discount"]
        return WorldModelLoss(total, terms, observed, decoded.image, reward_mean, discount_logit)

    @torch.no_grad()
    def open_loop(self, batch: TensorBatch, noise: Tensor, *, context: int) -> Decoded:
        """Reconstructs the first `context` rows and imagines the rest from the actions alone.

        Args:
            batch: [B, T]; no reset may lie behind the context.
            noise: of T samples, as in RSSM.observe.
            context: number of rows that the model sees, 1 to T - 1.

        Returns:
            Means of [B, T] images and vectors.
        """
        seen = TensorBatch(
            batch.image[:, :context],
            batch.prev_action[:, :context],
            batch.reward[:, :context],
            batch.is_first[:, :context],
            batch.is_terminal[:, :context],
            None if batch.vector is None else batch.vector[:, :context],
        )
        observed = self.observe(seen, noise[:, :context])
        last = observed.state.at(-1)
        imagined = self.rssm.imagine(last, batch.prev_action[:, context:], noise[:, context:])
        return self.decode(torch.cat([observed.state.feat, imagined.feat], 1))


def _reconstruction(batch: TensorBatch, decoded: Decoded) -> dict[str, Tensor]:
    """Terms of the loss of what was observed, each a Gaussian of unit variance."""
    terms: dict[str, Tensor] = {}
    if decoded.image is not None:
        error = (image_to_float(batch.image) - decoded.image).square()
        terms["image"] = 0.5 * error.sum((-3, -2, -1)).mean()
    if decoded.vector is not None:
        assert batch.vector is not None
        terms["vector"] = 0.5 * (batch.vector - decoded.vector).square().sum(-1).mean()
    return terms
