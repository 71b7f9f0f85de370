"""Behaviour learning in imagination: actor, critic and their losses (DreamerV2, sec. 2.2).

Time alignment of an imagined rollout of H = 4 steps. Reward and discount at k belong to state
s_k: they are what arriving there gave. The action a_k leads from s_k to s_{k+1}, so it is scored
by V_{k+1}; V_k holds r_k, which a_k could not change.

    k                 0     1     2     3     4
    state             s0    s1    s2    s3    s4
    action            a0    a1    a2    a3
    reward            r0    r1    r2    r3    r4
    discount          g0    g1    g2    g3    g4     g0 is the true one of the replay row
    weight            1     g0    g0g1  ...
    lambda-return     V0    V1    V2    V3           bootstrapped from v(s4)
    critic learns     V0    V1    V2    V3           at s0 .. s3
    actor: a_k gets   V1    V2    V3                 for a0 .. a2
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamer_core.config import BehaviorConfig
from dreamer_core.model.actions import make_actions
from dreamer_core.model.networks import MLP, Features, OneHotFeatures
from dreamer_core.model.rssm import RSSM, RSSMState
from dreamer_core.model.world_model import WorldModel


@dataclass(frozen=True, slots=True)
class Imagined:
    """A rollout inside the world model; N start states."""

    feat: Features
    """Features of s_0 .. s_H [H+1, N, F]."""
    action: Tensor
    """a_0 .. a_{H-1} [H, N, A]."""


@dataclass(frozen=True, slots=True)
class BehaviorLoss:
    """Losses of eq. 5 and 6 and what they were made of."""

    actor: Tensor
    critic: Tensor
    reward: Tensor
    """r_k [H+1, N]."""
    discount: Tensor
    """g_k [H+1, N]."""
    weight: Tensor
    """w_k [H+1, N]."""
    slow_value: Tensor
    """v(s_k) of the slow critic [H+1, N]."""
    target: Tensor
    """V_k [H, N]."""
    value: Tensor
    """Critic [H, N]."""
    actor_entropy: Tensor
    """Scalar in nats, mean over k < H - 1 and N, not weighted."""


def lambda_return(reward: Tensor, next_value: Tensor, discount: Tensor, lambda_: float) -> Tensor:
    """Lambda-return of an imagined rollout (DreamerV2, eq. 4).

        V_k = r_k + g_k * ((1 - lambda) * v(s_{k+1}) + lambda * V_{k+1}),    V_H = v(s_H)

    Args:
        reward: r_k [H, N], predicted at state s_k (the reward for *arriving* there).
        next_value: v(s_{k+1}) [H, N]; its last row is the bootstrap v(s_H).
        discount: g_k [H, N] in [0, 1]; 0 where the episode is predicted to end at k.
        lambda_: 0 gives one-step TD, 1 the discounted sum plus bootstrap.

    Returns:
        V_k [H, N]. Differentiable in every tensor argument (dynamics backprop needs it).

    Raises:
        ValueError: the three shapes differ.
    """
    if not reward.shape == next_value.shape == discount.shape:
        shapes = [tuple(x.shape) for x in (reward, next_value, discount)]
        raise ValueError(f"reward, next_value and discount must share [H, N], got {shapes}")
    returns: list[Tensor] = []
    running = next_value[-1]
    for k in reversed(range(len(reward))):
        running = reward[k] + discount[k] * ((1 - lambda_) * next_value[k] + lambda_ * running)
        returns.append(running)
    return torch.stack(returns[::-1])


def rollout_weight(discount: Tensor) -> Tensor:
    """Probability of still being in the episode: w_0 = 1, w_k = prod_{j<k} g_j; detached.

    Args:
        discount: g_k [H+1, N].
    """
    shifted = torch.cat([torch.ones_like(discount[:1]), discount[:-1].detach()])
    return shifted.cumprod(0)


def actor_objective(
    *,
    log_prob: Tensor | None,
    target: Tensor,
    slow_value: Tensor,
    entropy: Tensor,
    reinforce_share: float | Tensor,
    entropy_scale: float | Tensor,
) -> Tensor:
    """What the actor maximises in s_0 .. s_{H-2}, before weighting (DreamerV2, eq. 6).

        rho * ln pi(a_k | s_k) * sg(V_{k+1} - v(s_k)) + (1 - rho) * V_{k+1} + eta * H(pi)

    Args:
        log_prob: ln pi(a_k | s_k) [H-1, N], the action not differentiated; None if rho = 0.
        target: V_0 .. V_{H-1} [H, N].
        slow_value: v(s_k) [H+1, N], the baseline.
        entropy: of the policy in s_k [H-1, N].
        reinforce_share: rho.
        entropy_scale: eta.

    Returns:
        [H-1, N].
    """
    objective = entropy_scale * entropy
    if log_prob is not None:
        advantage = (target[1:] - slow_value[:-2]).detach()
        objective = objective + reinforce_share * log_prob * advantage
    if _has_dynamics(reinforce_share):
        objective = objective + (1 - reinforce_share) * target[1:]
    return objective


class Behavior(nn.Module):
    """Actor, critic and slow critic on top of model features.

    Args:
        config: sizes and loss weights.
        feat_size: F.
        action_size: A.
        is_discrete: kind of action.
        classes: as in `make_actions`.
    """

    def __init__(
        self,
        config: BehaviorConfig,
        *,
        feat_size: int,
        action_size: int,
        is_discrete: bool,
        classes: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.actions = make_actions(action_size, is_discrete=is_discrete, classes=classes)
        self.actor = MLP(feat_size, config.layers, config.units, self.actions.params_size)
        self.critic = MLP(feat_size, config.layers, config.units, 1)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def imagine(
        self, rssm: RSSM, start: RSSMState, action_noise: Tensor, state_noise: Tensor
    ) -> Imagined:
        """Rolls the policy out in the latent dynamics; differentiable if gradients are enabled.

        The actor reads sg(s_k), so gradients reach it through its actions alone.

        Args:
            rssm: the frozen dynamics.
            start: N states, detached; located ones if gradients are disabled.
            action_noise: [H, N, ...].
            state_noise: [H, N, ...].
        """
        state, feats, actions = start, [_features(start)], list[Tensor]()
        for action_noise_k, state_noise_k in zip(
            action_noise.unbind(0), state_noise.unbind(0), strict=True
        ):
            action, state, feat = self.imagine_step(
                rssm, state, feats[-1], action_noise_k, state_noise_k
            )
            actions.append(action)
            feats.append(feat)
        return Imagined(_stacked(feats), torch.stack(actions))

    def imagine_step(
        self,
        rssm: RSSM,
        state: RSSMState,
        feat: Features,
        action_noise: Tensor,
        state_noise: Tensor,
    ) -> tuple[Tensor, RSSMState, Features]:
        """Returns the action a_k in s_k, and s_{k+1} with its features; see `imagine`."""
        params = self.actor(_detached(feat)).float()
        action = self.actions.sample(params, action_noise)
        state = rssm.imagine_step(state, action, state_noise)
        return action, state, _features(state)

    def loss(
        self,
        world_model: WorldModel,
        start: RSSMState,
        start_discount: Tensor,
        action_noise: Tensor,
        state_noise: Tensor,
        *,
        reinforce_share: float | Tensor,
        entropy_scale: float | Tensor,
    ) -> BehaviorLoss:
        """Imagines H steps from every start state and returns both losses.

        With reinforce gradients alone (rho = 1) nothing of the rollout is recorded by autograd.

        Args:
            world_model: frozen here; take gradients with respect to actor and critic only.
            start: posterior states [N, ...] of the world model's batch, detached; may be located
                if rho = 1.
            start_discount: true gamma * (1 - is_terminal) of their rows [N].
            action_noise: [H, N, ...].
            state_noise: [H, N, ...].
            reinforce_share: rho of eq. 6; a scalar tensor is taken for a mixture.
            entropy_scale: eta of eq. 6.
        """
        with torch.set_grad_enabled(_has_dynamics(reinforce_share)):
            imagined = self.imagine(world_model.rssm, start, action_noise, state_noise)
        # Under autocast: weights that were cast while no gradient was wanted must not be reused.
        torch.clear_autocast_cache()
        return self.loss_of(world_model, imagined, start_discount, reinforce_share, entropy_scale)

    def loss_of(
        self,
        world_model: WorldModel,
        imagined: Imagined,
        start_discount: Tensor,
        reinforce_share: float | Tensor,
        entropy_scale: float | Tensor,
    ) -> BehaviorLoss:
        """Both losses of an imagined rollout; see `loss`."""
        with torch.set_grad_enabled(_has_dynamics(reinforce_share)):
            reward = world_model.predict_reward(imagined.feat)
            predicted = world_model.predict_discount(imagined.feat[1:])
            discount = torch.cat([start_discount.unsqueeze(0), predicted])
            slow_value = self._value(self.slow_critic, imagined.feat)
            target = lambda_return(reward[:-1], slow_value[1:], discount[:-1], self.config.lambda_)
        weight = rollout_weight(discount)
        feat = _detached(imagined.feat)
        params = self.actor(feat[:-2]).float()
        entropy = self.actions.entropy(params)
        is_reinforce = isinstance(reinforce_share, Tensor) or reinforce_share > 0
        actions = imagined.action[:-1].detach()
        objective = actor_objective(
            log_prob=self.actions.log_prob(params, actions) if is_reinforce else None,
            target=target,
            slow_value=slow_value,
            entropy=entropy,
            reinforce_share=reinforce_share,
            entropy_scale=entropy_scale,
        )
        value = self._value(self.critic, feat[:-1])
        return BehaviorLoss(
            actor=-(weight[:-2] * objective).mean(),
            critic=(weight[:-1] * 0.5 * (value - target.detach()).square()).mean(),
            reward=reward.detach(),
            discount=discount.detach(),
            weight=weight,
            slow_value=slow_value.detach(),
            target=target.detach(),
            value=value.detach(),
            actor_entropy=entropy.detach().mean(),
        )

    def update_slow_critic(self) -> None:
        """Copies the critic into the slow critic."""
        self.slow_critic.load_state_dict(self.critic.state_dict())

    def _value(self, critic: MLP, feat: Features) -> Tensor:
        """Value of features, float32, [..., F] to [...]."""
        return critic(feat).float().squeeze(-1)


def _features(state: RSSMState) -> Features:
    """Features as the heads read them: once in the dtype of autocast, not anew in each head.

    Those that are differentiated stay float32, so that the gradients of all heads add up in it.
    """
    feat = state.features
    device = state.deter.device.type
    if isinstance(feat, OneHotFeatures) or torch.is_grad_enabled():
        return feat
    return feat.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else feat


def _has_dynamics(reinforce_share: float | Tensor) -> bool:
    """Whether gradients of the dynamics take part; one never knows of a tensor."""
    return isinstance(reinforce_share, Tensor) or reinforce_share < 1


def _detached(feat: Features) -> Features:
    return feat if isinstance(feat, OneHotFeatures) else feat.detach()


def _stacked(feats: list[Features]) -> Features:
    """Features of K steps [N, F] as one [K, N, F]; all are of one kind."""
    if isinstance(feats[0], OneHotFeatures):
        parts = [(x.deter, x.position) for x in feats if isinstance(x, OneHotFeatures)]
        deter, position = zip(*parts, strict=True)
        return OneHotFeatures(torch.stack(deter), torch.stack(position))
    return torch.stack([x for x in feats if isinstance(x, Tensor)])
