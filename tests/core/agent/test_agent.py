"""The agent as a whole: gradient steps repeat, resume and refuse what is not finite."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer_core.agent.agent import DreamerAgent, NonFiniteLoss, linear_schedule
from dreamer_core.agent.device import choose_device, to_tensors
from dreamer_core.model.behavior import BehaviorLoss
from dreamer_core.model.rssm import RSSMState
from tests.core.small import (
    CONTINUOUS,
    CONTINUOUS_CONTROL,
    CPU,
    DISCRETE,
    make_agent,
    make_batch,
    make_constant,
    model_loss,
    parameters_of,
    small,
    train,
)

BATCHES = [make_batch(seed=seed) for seed in range(6)]


def everything(agent: DreamerAgent) -> Tensor:
    """Every parameter and every moment of the agent in one vector."""
    parts = [parameters_of(agent.world_model), parameters_of(agent.behavior)]
    for optimizer in agent.optimizers.values():
        state = optimizer.state()
        parts += [state["first_moment"], state["second_moment"]]
    return torch.cat(parts)


def test_the_same_steps_give_the_same_agent_bit_for_bit():
    ours, twin = make_agent(), make_agent()
    assert torch.equal(everything(ours), everything(twin))
    train(ours, BATCHES[:2])
    train(twin, BATCHES[:2])
    assert torch.equal(everything(ours), everything(twin))


def test_a_gradient_step_does_not_touch_or_read_the_global_random_numbers():
    ours, twin = make_agent(), make_agent()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(ours, BATCHES[:1])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    train(twin, BATCHES[:1])
    assert torch.equal(everything(ours), everything(twin))


def test_the_seed_changes_the_weights_and_the_step_changes_the_noise():
    assert not torch.equal(
        everything(make_agent()), everything(make_agent(config=replace(small(), seed=1)))
    )
    ours, later = make_agent(), make_agent()
    later.gradient_step = 7
    train(ours, BATCHES[:1])
    train(later, BATCHES[:1])
    assert not torch.equal(everything(ours), everything(later))


def test_every_network_is_trained_and_the_step_is_counted():
    agent, twin = make_agent(), make_agent()
    train(agent, BATCHES[:1])
    before = dict([*twin.world_model.named_parameters(), *twin.behavior.named_parameters()])
    after = [*agent.world_model.named_parameters(), *agent.behavior.named_parameters()]
    same = {name for name, value in after if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith("slow_critic.")}
    assert agent.gradient_step == 1


@pytest.mark.parametrize(
    ("config", "spec"), [(small(), DISCRETE), (CONTINUOUS_CONTROL, CONTINUOUS)]
)
def test_a_restored_agent_continues_bit_for_bit(config, spec):
    batches = [make_batch(spec, seed=seed) for seed in range(4)]
    whole, resumed = DreamerAgent(config, spec), DreamerAgent(config, spec)
    train(whole, batches[:2])
    resumed.load_state(copy.deepcopy(whole.state()))
    assert resumed.gradient_step == 2
    ours, theirs = train(whole, batches[2:]), train(resumed, batches[2:])
    assert torch.equal(everything(whole), everything(resumed))
    for mine, other in zip(ours, theirs, strict=True):
        assert {k: v.item() for k, v in mine.items()} == {k: v.item() for k, v in other.items()}


def test_a_state_of_another_model_is_refused():
    other = make_agent(config=small(world_model={"deter": 24}))
    with pytest.raises(ValueError, match="does not fit the configured model"):
        make_agent().load_state(other.state())


@pytest.mark.parametrize("part", ["world_model", "behavior", "optimizers", "gradient_step"])
def test_a_state_of_which_one_part_does_not_fit_changes_nothing(part):
    agent, other = make_agent(), make_agent()
    train(other, BATCHES[:1])
    alien = make_agent(config=small(world_model={"deter": 24}, behavior={"units": 12})).state()
    before = everything(agent)
    with pytest.raises(ValueError, match=part):
        agent.load_state({**other.state(), part: {**alien, "gradient_step": None}[part]})
    assert torch.equal(everything(agent), before) and agent.gradient_step == 0


# --- What is not finite --------------------------------------------------------------------------


def refused(agent: DreamerAgent, batch=BATCHES[0]) -> str:
    with pytest.raises(NonFiniteLoss) as caught:
        agent.train_step(batch)
    return str(caught.value)


def test_a_nan_reward_is_named_and_changes_nothing():
    agent, batch = make_agent(), make_batch()
    train(agent, BATCHES[:3])
    before = everything(agent)
    batch.reward[1, 2] = np.nan
    message = refused(agent, batch)
    assert "Non-finite world_model loss at gradient step 3: reward is not finite" in message
    assert torch.equal(everything(agent), before) and agent.gradient_step == 3


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_image_prediction_that_is_not_finite_is_named_and_changes_nothing(value):
    agent = make_agent()
    agent.world_model.decoder.convolutions[-1].bias.data.fill_(value)
    before = everything(agent)
    message = refused(agent)
    assert "Non-finite world_model loss at gradient step 0: image is not finite" in message
    assert torch.equal(everything(agent).nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("name", ["actor", "critic"])
def test_a_nan_in_behaviour_is_named_and_leaves_that_network_alone(name):
    agent = make_agent()
    network = getattr(agent.behavior, name)
    make_constant(network.out, *[np.nan] * network.out.out_features)
    before = parameters_of(network)
    assert f"Non-finite {name} loss at gradient step 0: {name} is not finite" in refused(agent)
    assert torch.equal(parameters_of(network).nan_to_num(), before.nan_to_num())
    assert agent.optimizers[name].state()["num_updates"] == 0


def test_a_gradient_that_is_not_finite_is_refused_though_the_loss_is():
    agent = make_agent()
    head = agent.world_model.reward_head
    make_constant(head.hidden[-1], *[0.0] * 8)
    head.out.bias.data.fill_(1e18)  # the loss is about 1e36
    head.out.weight.data.fill_(1e25)  # times the error of 1e18 this overflows
    assert "only the gradient is not finite" in refused(agent)


def test_a_learner_goes_on_after_it_refused_a_batch():
    agent, twin, batch = make_agent(), make_agent(), make_batch()
    batch.reward[0, 0] = np.nan
    refused(agent, batch)
    train(agent, BATCHES[:1])
    train(twin, BATCHES[:1])
    assert torch.equal(everything(agent), everything(twin))


# --- Parts of a gradient step ----------------------------------------------------------------


def test_the_slow_critic_is_copied_every_n_gradient_steps_and_stays_in_between():
    agent = make_agent(config=small(behavior={"slow_critic_interval_gradient_steps": 3}))
    behavior, critics, slow = agent.behavior, [], []
    critics.append(parameters_of(behavior.critic))
    for batch in BATCHES:
        agent.train_step(batch)
        critics.append(parameters_of(behavior.critic))
        slow.append(parameters_of(behavior.slow_critic))
    copied_at = [0, 0, 3, 3, 3, 6]  # the gradient step whose critic it is, after steps 1 to 6
    for step, copied in zip(slow, copied_at, strict=True):
        assert torch.equal(step, critics[copied])


def test_the_world_model_learns_the_same_whatever_the_behaviour():
    behaviors = [{}, {"reinforce_share": 0.0}, {"entropy_scale": 1.0, "horizon": 2}]
    agents = [make_agent(config=small(behavior=changes)) for changes in behaviors]
    for agent in agents:
        train(agent, BATCHES[:2])
    models = [parameters_of(agent.world_model) for agent in agents]
    assert torch.equal(models[0], models[1]) and torch.equal(models[0], models[2])
    actors = [parameters_of(agent.behavior.actor) for agent in agents]
    assert not torch.equal(actors[0], actors[1]) and not torch.equal(actors[0], actors[2])


def test_imagination_starts_from_every_row_with_the_discount_of_that_row(monkeypatch):
    agent, batch = make_agent(), make_batch()
    batch.is_terminal[:] = False
    batch.is_terminal[1, 2] = True
    data = to_tensors(batch, CPU)
    loss = model_loss(agent.world_model, data)
    states = loss.observed.state
    start = RSSMState(states.deter.flatten(0, 1), states.stoch.flatten(0, 1)).detach()
    seen, whole = list[BehaviorLoss](), agent.behavior.loss

    def note(*args, **kwargs):
        seen.append(whole(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(agent.behavior, "loss", note)
    agent._eager_update.behavior_part(agent.inputs(data, 1.0, 0.0), start)
    (behavior,) = seen
    expected = torch.full((3, 8), 0.995)
    expected[1, 2] = 0.0
    assert torch.equal(behavior.discount[0].reshape(3, 8), expected)
    assert torch.allclose(behavior.reward[0].reshape(3, 8), loss.reward_mean, atol=1e-6)


def test_continuous_control_trains_by_dynamics_with_gaussian_latents():
    agent = make_agent(CONTINUOUS, CONTINUOUS_CONTROL)
    before = parameters_of(agent.behavior.actor)
    metrics = train(agent, [make_batch(CONTINUOUS, seed=seed) for seed in range(3)])
    assert all(torch.isfinite(value) for step in metrics for value in step.values())
    assert metrics[0]["dreamer_actor_gradient_norm"] > 0
    assert not torch.equal(parameters_of(agent.behavior.actor), before)


def test_continuous_actions_work_with_reinforce_and_discrete_latents_too():
    agent = make_agent(CONTINUOUS, small(behavior={"reinforce_share": 0.5}))
    metrics = train(agent, [make_batch(CONTINUOUS)])[0]
    assert all(torch.isfinite(value) for value in metrics.values())


def test_an_agent_without_a_discount_head_trains():
    agent = make_agent(config=small(world_model={"has_discount_head": False}))
    metrics = train(agent, BATCHES[:2])[-1]
    assert "dreamer_discount_loss" not in metrics
    assert torch.isfinite(metrics["dreamer_critic_loss"])


def test_repeating_one_batch_lowers_the_loss_of_the_world_model():
    metrics = train(make_agent(), [BATCHES[0]] * 20)
    losses = [float(step["dreamer_world_model_loss"]) for step in metrics]
    assert losses[-1] < losses[0]


def test_the_metrics_are_the_losses_norms_and_statistics_of_the_step():
    agent = make_agent()
    metrics = agent.train_step(BATCHES[0])
    image, error = metrics["dreamer_image_loss"], metrics["dreamer_image_mean_squared_error"]
    assert image.item() == pytest.approx(0.5 * 64 * 64 * error.item(), rel=1e-5)
    kl, nats = metrics["dreamer_kl_loss"], metrics["dreamer_kl_nats"]
    assert kl.item() == pytest.approx(nats.item(), rel=1e-5)
    assert 0 < metrics["dreamer_actor_entropy_nats"] <= np.log(3) + 1e-6
    assert all(value.numel() == 1 for value in metrics.values())


def test_a_schedule_is_a_line_that_ends():
    assert [linear_schedule(2.0, 4.0, p) for p in (-1, 0, 0.25, 1, 7)] == [2, 2, 2.5, 4, 4]
    assert linear_schedule(2.0, None, 0.5) == 2.0


def test_a_device_that_torch_does_not_see_is_refused():
    assert choose_device("cpu") == CPU
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert choose_device("auto") == CPU
    with pytest.raises(ValueError, match="sees no CUDA device"):
        choose_device("cuda")
