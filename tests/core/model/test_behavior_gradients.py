"""Actor and critic in a real small world model: where gradients flow, and to whom."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dreamer_core.agent.optimizer import Optimizer
from dreamer_core.model.behavior import Behavior, BehaviorLoss, Imagined
from dreamer_core.model.rssm import RSSMState
from tests.core.small import (
    CONTINUOUS,
    DISCRETE,
    generator,
    gradient_size,
    make_behavior,
    make_constant,
    make_world_model,
    parameters_of,
    small,
)


class Recording(Behavior):
    """Keeps the last rollout; `is_traced` records it with autograd whatever the caller wants."""

    is_traced = False

    def imagine(self, *arguments: Tensor) -> Imagined:
        with torch.set_grad_enabled(self.is_traced or torch.is_grad_enabled()):
            self.imagined = super().imagine(*arguments)
        return self.imagined


def imagine_loss(
    share: float, *, is_traced: bool = False, spec=DISCRETE, scale: float = 1e-3, **world_model
) -> SimpleNamespace:
    config = small(world_model=world_model)
    model = make_world_model(config, spec)
    behavior = make_behavior(config, model, spec, Recording)
    behavior.is_traced = is_traced
    rng, count = generator(), (config.behavior.horizon, 5)
    latent = model.rssm.latent
    deter = torch.randn(5, config.world_model.deter, generator=rng)
    start = RSSMState(deter, torch.randn(5, latent.size, generator=rng))
    noises = behavior.actions.noise(count, rng), latent.noise(count, rng)

    def run() -> BehaviorLoss:
        return behavior.loss(
            model, start, torch.full((5,), 0.9), *noises, reinforce_share=share,
            entropy_scale=scale,
        )  # fmt: skip

    return SimpleNamespace(model=model, behavior=behavior, run=run, loss=run())


def actor_gradient(it: SimpleNamespace) -> Tensor:
    parameters = list(it.behavior.actor.parameters())
    gradients = torch.autograd.grad(it.loss.actor, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_reinforce_alone_records_nothing_of_the_rollout():
    it = imagine_loss(1.0)
    assert not it.behavior.imagined.feat.requires_grad
    assert not it.behavior.imagined.action.requires_grad


def test_reinforce_has_the_same_gradient_whether_or_not_the_rollout_is_recorded():
    lean, traced = imagine_loss(1.0), imagine_loss(1.0, is_traced=True)
    assert traced.behavior.imagined.feat.requires_grad
    assert torch.equal(actor_gradient(lean), actor_gradient(traced))
    assert actor_gradient(lean).abs().max() > 0


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_dynamics_gradients_reach_the_actor_through_the_rollout(share):
    it = imagine_loss(share)
    later = it.behavior.imagined.feat[-1].sum()
    assert gradient_size(later, it.behavior.actor) > 0
    assert actor_gradient(it).abs().max() > 0


def test_the_dynamics_gradient_equals_finite_differences():
    options = {"latent": "gaussian", "has_discount_head": False}  # smooth, with constant weights
    it = imagine_loss(0.0, spec=CONTINUOUS, scale=0.0, **options)
    bias = it.behavior.actor.out.bias
    make_constant(it.behavior.actor.out, 0.3, -0.4, 0.2, 0.1)  # sg(s_k) is then all there is
    gradient = torch.autograd.grad(it.run().actor, bias)[0]
    for i, step in enumerate(0.02 * torch.eye(4)):
        values = []
        for shift in (step, -step):
            make_constant(it.behavior.actor.out, *(torch.tensor([0.3, -0.4, 0.2, 0.1]) + shift))
            values.append(it.run().actor.item())
        assert gradient[i].item() == pytest.approx((values[0] - values[1]) / 0.04, rel=0.02)


def test_the_actor_reads_states_without_passing_gradients_back():
    it = imagine_loss(0.0)
    size, rng, latent = it.model.rssm.deter_size, generator(), it.model.rssm.latent
    deter = torch.randn(5, size, generator=rng).requires_grad_()
    noises = it.behavior.actions.noise((3, 5), rng), latent.noise((3, 5), rng)
    start = RSSMState(deter, torch.zeros(5, latent.size))
    imagined = it.behavior.imagine(it.model.rssm, start, *noises)
    later_action, later_state = imagined.action[2, :, 0].sum(), imagined.feat[2].sum()
    assert torch.autograd.grad(later_action, deter, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(later_state, deter)[0].abs().max() > 0


@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
def test_actor_and_critic_train_themselves_and_nobody_else(share):
    it = imagine_loss(share)
    actor, critic, slow = it.behavior.actor, it.behavior.critic, it.behavior.slow_critic
    assert gradient_size(it.loss.actor, critic) == 0
    assert gradient_size(it.loss.critic, actor, it.model) == 0
    assert gradient_size(it.loss.critic, critic) > 0
    assert not any(p.requires_grad for p in slow.parameters())


@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
def test_updating_the_actor_leaves_no_gradient_and_no_change_in_the_world_model(share):
    it = imagine_loss(share)
    before = parameters_of(it.model)
    actor = list(it.behavior.actor.parameters())
    optimizer = Optimizer(actor, it.behavior.config.actor_optimizer)
    optimizer.apply(*optimizer.gradient(it.loss.actor))
    assert all(p.grad is None for p in it.model.parameters())
    assert torch.equal(parameters_of(it.model), before)


def test_the_slow_critic_starts_equal_and_is_renewed_by_a_copy():
    it = imagine_loss(1.0)
    behavior = it.behavior
    assert torch.equal(parameters_of(behavior.slow_critic), parameters_of(behavior.critic))
    make_constant(behavior.critic.out, 5.0)
    assert not torch.equal(parameters_of(behavior.slow_critic), parameters_of(behavior.critic))
    behavior.update_slow_critic()
    assert torch.equal(parameters_of(behavior.slow_critic), parameters_of(behavior.critic))


def test_targets_come_from_the_slow_critic_and_not_from_the_critic():
    it = imagine_loss(1.0)
    make_constant(it.behavior.critic.out, 5.0)
    assert torch.equal(it.run().target, it.loss.target)
    make_constant(it.behavior.slow_critic.out, 5.0)
    assert not torch.equal(it.run().target, it.loss.target)


def test_the_rollout_starts_from_the_given_states_and_feeds_on_itself():
    it = imagine_loss(1.0)
    imagined, model = it.behavior.imagined, it.model
    horizon, count, _ = imagined.action.shape
    assert imagined.feat.shape == (horizon + 1, count, model.rssm.feat_size)
    deter, stoch = imagined.feat.split([model.rssm.deter_size, model.rssm.latent.size], -1)
    for k in range(horizon):
        state, noise = RSSMState(deter[k], stoch[k]), model.rssm.latent.noise((5,), generator())
        after = model.rssm.imagine_step(state, imagined.action[k], noise)
        assert torch.allclose(after.deter, deter[k + 1], atol=1e-6)
