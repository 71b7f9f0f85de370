"""The released update rule, against its statement in numpy float64."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamer_core.agent.optimizer import Optimizer
from dreamer_core.config import OptimizerConfig
from tests.core.small import generator, parameters_of, to_float64


def make_layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def make_optimizer(layer: nn.Module, **config: float) -> Optimizer:
    return Optimizer(list(layer.parameters()), OptimizerConfig(**{"learning_rate": 1e-2, **config}))


def take_step(optimizer: Optimizer, gradient: Tensor) -> None:
    """One step with this flat gradient."""
    optimizer.apply(gradient.clone(), torch.linalg.vector_norm(gradient))


def gradients(count: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, 8, generator=generator())


def slow_steps(w: np.ndarray, grads: Tensor, config: OptimizerConfig) -> np.ndarray:
    """The rule of optimizer.py, term by term."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(to_float64(grads), start=1):
        g = gradient * min(1, config.clip_norm / np.sqrt((gradient**2).sum()))
        w = w * (1 - config.weight_decay)
        m, v = 0.9 * m + 0.1 * g, config.beta_2 * v + (1 - config.beta_2) * g**2
        rate = config.learning_rate * np.sqrt(1 - config.beta_2**t) / (1 - 0.9**t)
        w = w - rate * m / (np.sqrt(v) + config.epsilon)
    return w


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"clip_norm": 0.5},
        {"epsilon": 0.1},
        {"weight_decay": 0.1},
        {"learning_rate": 1.0},
        {"beta_2": 0.9},
    ],
)
def test_steps_equal_the_stated_rule(config):
    layer = make_layer()
    optimizer, before = make_optimizer(layer, **config), to_float64(parameters_of(layer))
    grads = gradients(5)
    for gradient in grads:
        take_step(optimizer, gradient)
    slow = slow_steps(before, grads, optimizer.config)
    np.testing.assert_allclose(parameters_of(layer), slow, rtol=1e-5, atol=1e-6)


def test_the_first_step_by_hand():
    parameter = nn.Parameter(torch.tensor([2.0]))
    config = OptimizerConfig(learning_rate=0.1, epsilon=0.01, weight_decay=0.5)
    take_step(Optimizer([parameter], config), torch.tensor([3.0]))
    # m = 0.3, sqrt(v) = sqrt(0.009), rate = 0.1 * sqrt(0.001) / 0.1; epsilon is not corrected
    by_hand = 2 * 0.5 - 0.1 * np.sqrt(0.001) / 0.1 * 0.3 / (np.sqrt(0.009) + 0.01)
    assert parameter.item() == pytest.approx(by_hand, rel=1e-6)


def test_a_gradient_above_the_limit_is_scaled_to_it_and_one_below_is_not():
    large, clipped, small = make_layer(), make_layer(), make_layer()
    gradient = gradients(1)[0]
    unit = gradient / torch.linalg.vector_norm(gradient)
    take_step(make_optimizer(large, clip_norm=2.0, epsilon=1.0), unit * 50)
    take_step(make_optimizer(clipped, clip_norm=100.0, epsilon=1.0), unit * 2)
    take_step(make_optimizer(small, clip_norm=2.0, epsilon=1.0), unit * 0.5)
    assert torch.allclose(parameters_of(large), parameters_of(clipped), atol=1e-7)
    unclipped = slow_steps(
        to_float64(parameters_of(make_layer())),
        (unit * 0.5)[None],
        OptimizerConfig(learning_rate=1e-2, epsilon=1.0),
    )
    np.testing.assert_allclose(parameters_of(small), unclipped, rtol=1e-6, atol=1e-7)


def test_decay_does_not_depend_on_the_learning_rate():
    decayed = []
    for rate in (1e-4, 10.0):
        layer = make_layer()
        take_step(make_optimizer(layer, learning_rate=rate, weight_decay=0.25), torch.zeros(8))
        decayed.append(parameters_of(layer))
    assert torch.equal(decayed[0], decayed[1])
    assert torch.equal(decayed[0], 0.75 * parameters_of(make_layer()))


def test_a_zero_gradient_gives_no_nan():
    layer = make_layer()
    take_step(make_optimizer(layer), torch.zeros(8))
    assert torch.isfinite(parameters_of(layer)).all()


def test_the_gradient_is_flat_in_the_order_of_the_parameters_with_its_norm():
    layer, x = make_layer(), torch.tensor([1.0, 2.0, 3.0])
    gradient, norm = make_optimizer(layer).gradient(layer(x).sum())
    assert gradient.tolist() == [1, 2, 3, 1, 2, 3, 1, 1]
    assert norm.item() == pytest.approx(np.sqrt(2 * 14 + 2))
    assert all(p.grad is None for p in layer.parameters())


def shares_one_buffer(layer: nn.Linear) -> bool:
    storages = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    return len(storages) == 1 and layer.bias.data_ptr() - layer.weight.data_ptr() == 4 * 6


def test_parameters_stay_views_of_one_buffer():
    layer, before = make_layer(), make_layer()
    optimizer = make_optimizer(layer)
    assert torch.equal(parameters_of(layer), parameters_of(before))
    assert shares_one_buffer(layer) and layer.weight.shape == (2, 3)
    take_step(optimizer, torch.ones(8))
    layer.load_state_dict(before.state_dict())
    assert shares_one_buffer(layer)
    take_step(optimizer, torch.ones(8))
    assert (parameters_of(layer) != parameters_of(before)).all()


def test_a_restored_optimiser_continues_bit_for_bit():
    whole, resumed = make_layer(), make_layer()
    optimizer, grads = make_optimizer(whole), gradients(6)
    for gradient in grads[:3]:
        take_step(optimizer, gradient)
    resumed.load_state_dict(whole.state_dict())
    other = make_optimizer(resumed)
    other.load_state(optimizer.state())
    for gradient in grads[3:]:
        take_step(optimizer, gradient)
        take_step(other, gradient)
    assert torch.equal(parameters_of(whole), parameters_of(resumed))


def test_a_state_of_another_size_is_refused():
    saved = make_optimizer(nn.Linear(5, 5)).state()
    with pytest.raises(ValueError, match="has 8 parameters but its saved state has 30"):
        make_optimizer(make_layer()).load_state(saved)
