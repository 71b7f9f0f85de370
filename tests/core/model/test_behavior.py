"""Actor and critic: lambda-returns, and both losses on a three-step rollout worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamer_core.config import BehaviorConfig
from dreamer_core.model.behavior import (
    Behavior,
    BehaviorLoss,
    actor_objective,
    lambda_return,
    rollout_weight,
)
from dreamer_core.model.rssm import RSSMState
from tests.core.small import generator, make_constant, to_float64

REWARD = torch.tensor([[1.0], [2.0], [4.0]])  # [H=3, N=1]
NEXT_VALUE = torch.tensor([[10.0], [10.0], [10.0]])  # the last row is the bootstrap
HALF = torch.full((3, 1), 0.5)


def test_lambda_zero_looks_exactly_one_step_ahead():
    returns = lambda_return(REWARD, NEXT_VALUE, HALF, lambda_=0.0)
    assert returns.flatten().tolist() == [1 + 5, 2 + 5, 4 + 5]


def test_lambda_one_is_the_discounted_sum_plus_bootstrap():
    returns = lambda_return(REWARD, NEXT_VALUE, HALF, lambda_=1.0)
    assert returns[0].item() == 1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 10


def test_lambda_returns_by_hand():
    next_value = torch.tensor([[8.0], [4.0], [2.0]])
    returns = lambda_return(REWARD, next_value, HALF, lambda_=0.5)
    last = 4 + 0.5 * 2
    middle = 2 + 0.5 * (0.5 * 4 + 0.5 * last)
    first = 1 + 0.5 * (0.5 * 8 + 0.5 * middle)
    assert returns.flatten().tolist() == [first, middle, last]


def test_nothing_after_a_predicted_end_counts():
    ends_at_step_1 = torch.tensor([[0.5], [0.0], [0.5]])
    returns = lambda_return(REWARD, NEXT_VALUE, ends_at_step_1, lambda_=0.95)
    assert returns[1].item() == 2.0  # its own reward and no future


def slow_lambda_return(reward, next_value, discount, lambda_, k):
    """Eq. 4 as it is written, one trajectory, float64."""
    if k == len(reward):
        return next_value[-1]
    later = slow_lambda_return(reward, next_value, discount, lambda_, k + 1)
    return reward[k] + discount[k] * ((1 - lambda_) * next_value[k] + lambda_ * later)


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_lambda_returns_equal_the_recursion_of_the_paper(lambda_):
    reward, value = torch.randn(2, 15, 4, generator=generator()).unbind(0)
    discount = torch.rand(15, 4, generator=generator(1))
    ours = lambda_return(reward, value, discount, lambda_)
    arrays = [to_float64(x).T for x in (reward, value, discount)]
    for n, trajectory in enumerate(zip(*arrays, strict=True)):
        slow = [slow_lambda_return(*trajectory, lambda_, k) for k in range(15)]
        np.testing.assert_allclose(ours[:, n], slow, rtol=1e-5, atol=1e-5)


def test_lambda_returns_are_differentiable_in_every_argument():
    tensors = [x.clone().requires_grad_() for x in (REWARD, NEXT_VALUE, HALF)]
    gradients = torch.autograd.grad(lambda_return(*tensors, lambda_=0.5)[0].sum(), tensors)
    assert gradients[0].flatten().tolist() == [1, 0.25, 0.0625]
    assert all((gradient != 0).all() for gradient in gradients)


def test_lambda_returns_refuse_shapes_that_differ():
    with pytest.raises(
        ValueError, match=r"must share \[H, N\], got .*\(3, 1\), \(4, 1\), \(3, 1\)"
    ):
        lambda_return(REWARD, torch.zeros(4, 1), HALF, lambda_=0.95)


def test_a_state_weighs_what_the_discounts_before_it_say():
    discount = torch.tensor([[0.5], [0.0], [0.9], [0.8]], requires_grad=True)
    weight = rollout_weight(discount)
    assert weight.flatten().tolist() == [1, 0.5, 0, 0]
    assert not weight.requires_grad


def test_the_objective_leaves_the_advantage_out_of_the_gradient():
    log_prob, entropy = torch.tensor([[-1.0]]), torch.tensor([[0.5]])
    target = torch.tensor([[1.0], [7.0]], requires_grad=True)
    slow_value = torch.tensor([[3.0], [50.0], [60.0]], requires_grad=True)
    objective = actor_objective(
        log_prob=log_prob.requires_grad_(), target=target, slow_value=slow_value,
        entropy=entropy, reinforce_share=1.0, entropy_scale=0.1,
    )  # fmt: skip
    assert objective.item() == pytest.approx(-1 * (7 - 3) + 0.1 * 0.5)
    inputs = (log_prob, target, slow_value)
    gradients = torch.autograd.grad(objective.sum(), inputs, allow_unused=True)
    assert gradients[0].item() == 4 and gradients[1:] == (None, None)


def test_the_objective_mixes_reinforce_and_dynamics():
    target = torch.tensor([[1.0], [7.0]], requires_grad=True)
    objective = actor_objective(
        log_prob=torch.tensor([[-1.0]]), target=target, slow_value=torch.zeros(3, 1),
        entropy=torch.zeros(1, 1), reinforce_share=0.75, entropy_scale=0.0,
    )  # fmt: skip
    assert objective.item() == pytest.approx(0.75 * -1 * 7 + 0.25 * 7)
    assert torch.autograd.grad(objective.sum(), target)[0].flatten().tolist() == [0, 0.25]


# --- A rollout worked out by hand ------------------------------------------------------------
#
#   k                 0      1      2      3
#   reward            1      2      3      100     the last one must not count
#   discount          0.9    0.5    0.8    0.1     0.9 is the true one of the start row
#   slow value        10     20     30     40
#   critic            11     17     32
#   weight            1      0.9    0.45
#   lambda-return     18.2125  18.25  35           with lambda = 0.5


class Line:
    """A world whose state is its own step number k: row k of each table is what it predicts."""

    reward = torch.tensor([1.0, 2.0, 3.0, 100.0])
    discount = torch.tensor([0.7, 0.5, 0.8, 0.1])  # 0.7 must give way to the true 0.9

    @property
    def rssm(self):
        return self

    def imagine_step(self, state: RSSMState, action: Tensor, noise: Tensor) -> RSSMState:
        return RSSMState(state.deter + 1, state.stoch)

    def predict_reward(self, feat: Tensor) -> Tensor:
        return self.reward[feat[..., 0].long()]

    def predict_discount(self, feat: Tensor) -> Tensor:
        return self.discount[feat[..., 0].long()]


class Table(nn.Module):
    """A critic that reads the value of state k from a table."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, feat: Tensor) -> Tensor:
        return self.values[feat[..., 0].long()].unsqueeze(-1)


LOGITS = (math.log(1), math.log(3))  # the policy everywhere: probabilities 1/4, 3/4
ENTROPY = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
DRAWN = (1, 0, 1)  # actions of the rollout


def line_loss(*, reinforce_share: float, entropy_scale: float) -> tuple[Behavior, BehaviorLoss]:
    config = BehaviorConfig(horizon=3, lambda_=0.5, layers=1, units=4)
    behavior = Behavior(config, feat_size=2, action_size=2, is_discrete=True)
    make_constant(behavior.actor.out, *LOGITS)
    behavior.critic = Table(11.0, 17.0, 32.0, 0.0)
    behavior.slow_critic = Table(10.0, 20.0, 30.0, 40.0).requires_grad_(False)
    action_noise = 1 - nn.functional.one_hot(torch.tensor(DRAWN), 2).float() + 1e-9
    start = RSSMState(torch.zeros(1, 1), torch.zeros(1, 1))
    loss = behavior.loss(
        Line(), start, torch.tensor([0.9]), action_noise[:, None], torch.zeros(3, 1),
        reinforce_share=reinforce_share, entropy_scale=entropy_scale,
    )  # fmt: skip
    return behavior, loss


def test_targets_and_weights_of_the_rollout_by_hand():
    _, loss = line_loss(reinforce_share=1.0, entropy_scale=0.0)
    assert loss.reward.flatten().tolist() == [1, 2, 3, 100]
    assert loss.discount.flatten().tolist() == pytest.approx([0.9, 0.5, 0.8, 0.1])
    assert loss.weight.flatten().tolist() == pytest.approx([1, 0.9, 0.45, 0.36])
    assert loss.target.flatten().tolist() == pytest.approx([18.2125, 18.25, 35.0])
    assert loss.slow_value.flatten().tolist() == [10, 20, 30, 40]
    assert loss.actor_entropy.item() == pytest.approx(ENTROPY)


def test_the_critic_loss_of_the_rollout_by_hand():
    behavior, loss = line_loss(reinforce_share=1.0, entropy_scale=0.0)
    errors = [11 - 18.2125, 17 - 18.25, 32 - 35]
    weights = [1, 0.9, 0.45]
    by_hand = sum(w * 0.5 * e**2 for w, e in zip(weights, errors, strict=True)) / 3
    assert loss.critic.item() == pytest.approx(by_hand, rel=1e-5)
    gradient = torch.autograd.grad(loss.critic, behavior.critic.values)[0]
    slopes = [w * e / 3 for w, e in zip(weights, errors, strict=True)]
    assert gradient.tolist() == pytest.approx([*slopes, 0.0], rel=1e-5)


def test_the_reinforce_loss_of_the_rollout_by_hand():
    _, loss = line_loss(reinforce_share=1.0, entropy_scale=0.1)
    advantage = [18.25 - 10, 35 - 20]  # the return of the next state over this state's value
    first = 1.0 * (math.log(0.75) * advantage[0] + 0.1 * ENTROPY)
    second = 0.9 * (math.log(0.25) * advantage[1] + 0.1 * ENTROPY)
    assert loss.actor.item() == pytest.approx(-(first + second) / 2, rel=1e-5)


def test_the_reinforce_gradient_of_the_rollout_by_hand():
    behavior, loss = line_loss(reinforce_share=1.0, entropy_scale=0.0)
    gradient = torch.autograd.grad(loss.actor, behavior.actor.out.bias)[0]
    # d ln pi(a) / d logit_1 is 1 - 3/4 where action 1 was drawn, -3/4 where action 0 was
    by_hand = -(1.0 * 8.25 * 0.25 + 0.9 * 15 * -0.75) / 2
    assert gradient.tolist() == pytest.approx([-by_hand, by_hand], rel=1e-5)


def test_the_dynamics_loss_of_the_rollout_by_hand():
    _, loss = line_loss(reinforce_share=0.0, entropy_scale=0.1)
    by_hand = -(1.0 * (18.25 + 0.1 * ENTROPY) + 0.9 * (35 + 0.1 * ENTROPY)) / 2
    assert loss.actor.item() == pytest.approx(by_hand, rel=1e-5)


def test_the_mixed_loss_of_the_rollout_is_the_mixture_of_both():
    losses = {
        share: line_loss(reinforce_share=share, entropy_scale=0.0)[1].actor.item()
        for share in (0.0, 0.9, 1.0)
    }
    assert losses[0.9] == pytest.approx(0.9 * losses[1.0] + 0.1 * losses[0.0], rel=1e-5)
