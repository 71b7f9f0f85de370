"""Layers: shapes, initial weights, parameter counts, and the GRU cell against numpy in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dreamer_core.model.behavior import Behavior
from dreamer_core.model.networks import (
    MLP,
    GRUCell,
    ImageDecoder,
    ImageEncoder,
    dense,
    image_to_float,
)
from dreamer_core.model.world_model import WorldModel
from dreamer_core.presets import preset
from tests.core.small import elu, generator, sigmoid, to_float64


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def atari() -> tuple[WorldModel, Behavior]:
    """The networks of preset `atari` with 18 actions, without memory behind them."""
    config = preset("atari")
    with torch.device("meta"):
        model = WorldModel(config.world_model, channels=1, action_size=18, discount=0.995)
        behavior = Behavior(
            config.behavior, feat_size=model.rssm.feat_size, action_size=18, is_discrete=True
        )
    return model, behavior


def test_the_world_model_has_as_many_parameters_as_the_papers(atari):
    assert count(atari[0]) == 19_975_379


def test_actor_and_critic_have_as_many_parameters_as_the_papers(atari):
    assert count(atari[1].actor) == 1_138_418
    assert count(atari[1].critic) == count(atari[1].slow_critic) == 1_131_601


def test_sizes_of_the_parts_at_atari_scale(atari):
    model = atari[0]
    assert model.encoder.size == 1536
    assert model.rssm.feat_size == 600 + 32 * 32
    assert [c.out_channels for c in model.encoder.convolutions] == [48, 96, 192, 384]
    assert [c.out_channels for c in model.decoder.convolutions] == [192, 96, 48, 1]


def test_pixels_become_floats_around_zero():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert image_to_float(image).dtype == torch.float32
    assert image_to_float(image).tolist() == pytest.approx([-0.5, -0.3, 0.5])


def widths_inside(module: nn.Module, layers: nn.ModuleList, inputs: torch.Tensor) -> list[int]:
    """Width of the map that each of the layers puts out."""
    widths = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, out: widths.append(out.shape[-1]))
    module(inputs)
    return widths


def test_the_encoder_shrinks_64_pixels_to_31_14_6_and_2():
    encoder = ImageEncoder(channels=1, depth=2)
    assert widths_inside(encoder, encoder.convolutions, torch.zeros(1, 64, 64, 1)) == [31, 14, 6, 2]


def test_the_decoder_grows_1_pixel_to_5_13_30_and_64():
    decoder = ImageDecoder(inputs=7, channels=1, depth=2)
    first = decoder._first_convolution(torch.zeros(1, 64))
    assert first.shape == (1, 8, 5, 5)
    assert widths_inside(decoder, decoder.convolutions[1:-1], torch.zeros(1, 7)) == [13, 30]
    assert decoder(torch.zeros(1, 7)).shape == (1, 64, 64, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_single_image_without_gradients_is_embedded_as_in_a_batch(channels):
    encoder = ImageEncoder(channels, depth=2)
    images = torch.randn(2, 3, 64, 64, channels, generator=generator())
    with torch.no_grad():
        alone = encoder(images[1:, 2:])
    assert alone.shape == (1, 1, encoder.size)
    assert torch.allclose(alone[0, 0], encoder(images)[1, 2], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_encoder_and_decoder_keep_the_leading_axes(channels):
    encoder, decoder = ImageEncoder(channels, depth=2), ImageDecoder(5, channels, depth=2)
    image = torch.randn(2, 3, 64, 64, channels, generator=generator())
    feat = torch.randn(2, 3, 5, generator=generator())
    assert torch.allclose(encoder(image)[1, 2], encoder(image[1:, 2])[0], atol=1e-6)
    assert decoder(feat).shape == image.shape
    assert torch.allclose(decoder(feat)[1, 2], decoder(feat[1:, 2])[0], atol=1e-6)


def test_the_first_transposed_convolution_is_the_layers_own_and_an_elu():
    decoder = ImageDecoder(inputs=7, channels=1, depth=2)
    nn.init.normal_(decoder.convolutions[0].bias)
    x = torch.randn(4, 64, generator=generator())
    own = F.elu(decoder.convolutions[0](x[:, :, None, None]))
    assert torch.allclose(decoder._first_convolution(x), own, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_decoder_is_linear_after_the_last_layer_and_elu_between(depth):
    decoder = ImageDecoder(inputs=7, channels=1, depth=depth)
    feat = torch.randn(3, 7, generator=generator())
    x = decoder.dense(feat)[:, :, None, None]
    for layer in decoder.convolutions[:-1]:
        x = F.elu(layer(x))
    plain = decoder.convolutions[-1](x)[:, 0, :, :, None]
    image = decoder(feat)
    assert torch.allclose(image, plain, atol=1e-6)
    image.sum().backward()


def test_an_mlp_equals_numpy():
    mlp = MLP(inputs=4, layers=2, units=5, outputs=2)
    x = torch.randn(3, 4, generator=generator())
    slow = to_float64(x)
    for layer in mlp.hidden:
        slow = elu(slow @ to_float64(layer.weight).T + to_float64(layer.bias))
    slow = slow @ to_float64(mlp.out.weight).T + to_float64(mlp.out.bias)
    np.testing.assert_allclose(mlp(x).detach(), slow, rtol=1e-5, atol=1e-6)


# --- GRU cell ------------------------------------------------------------------------------------


def slow_gru(cell: GRUCell, x: np.ndarray, deter: np.ndarray) -> np.ndarray:
    """The cell's formula in float64."""
    gates = np.concatenate([x, deter], -1) @ to_float64(cell.gates.weight).T
    gates = gates + to_float64(cell.gates.bias)
    if cell.norm is not None:
        centred = gates - gates.mean(-1, keepdims=True)
        gates = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)
        gates = gates * to_float64(cell.norm.weight) + to_float64(cell.norm.bias)
    reset, candidate, update = np.split(gates, 3, -1)
    candidate, update = np.tanh(sigmoid(reset) * candidate), sigmoid(update - 1)
    return update * candidate + (1 - update) * deter


@pytest.mark.parametrize("has_layer_norm", [True, False])
def test_the_gru_cell_equals_numpy(has_layer_norm):
    cell = GRUCell(4, 5, has_layer_norm=has_layer_norm)
    for parameter in cell.parameters():
        nn.init.normal_(parameter)
    x, deter = torch.randn(6, 4, generator=generator()), torch.randn(6, 5, generator=generator(1))
    slow = slow_gru(cell, to_float64(x), to_float64(deter))
    np.testing.assert_allclose(cell(x, deter).detach(), slow, rtol=1e-4, atol=1e-5)


def cell_with_gates(*gates: float, has_layer_norm: bool) -> GRUCell:
    """A cell of one unit whose (reset, candidate, update) before the norm are fixed."""
    cell = GRUCell(1, 1, has_layer_norm=has_layer_norm)
    nn.init.zeros_(cell.gates.weight)
    cell.gates.bias.data.copy_(torch.tensor(gates))
    return cell


def test_the_gru_cell_by_hand():
    cell = cell_with_gates(0.0, 2.0, 1.0, has_layer_norm=False)
    # r = 1/2, so c = tanh(1); u = sigmoid(1 - 1) = 1/2
    after = cell(torch.zeros(1, 1), torch.tensor([[0.3]]))
    assert after.item() == pytest.approx(0.5 * math.tanh(1.0) + 0.5 * 0.3)


def test_the_layer_norm_of_the_gru_cell_by_hand():
    cell = cell_with_gates(1.0, 2.0, 3.0, has_layer_norm=True)
    edge = 1 / math.sqrt(2 / 3 + 1e-3)  # gates become -edge, 0, edge: the candidate is tanh(0)
    after = cell(torch.zeros(1, 1), torch.tensor([[0.3]]))
    assert after.item() == pytest.approx((1 - sigmoid(edge - 1)) * 0.3)


@pytest.mark.parametrize("has_layer_norm", [True, False])
def test_units_begin_with_memories_of_2_to_so_many_steps(has_layer_norm):
    cell = GRUCell(1, 3, has_layer_norm=has_layer_norm, memory_rows=4)
    nn.init.zeros_(cell.gates.weight)
    after = cell(torch.zeros(1, 1), torch.ones(1, 3))  # the candidate is tanh(0)
    torch.testing.assert_close(after, torch.tensor([[1 / 2, 2 / 3, 3 / 4]]))


# --- Initial weights -----------------------------------------------------------------------------


def assert_glorot(layer: nn.Module, fan_in: int, fan_out: int) -> None:
    bound, weight = math.sqrt(6 / (fan_in + fan_out)), layer.weight.detach()
    assert 0.97 * bound < weight.abs().max() <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert abs(float(weight.mean())) < 0.05 * bound
    assert layer.bias.abs().max() == 0


def test_dense_layers_start_glorot_uniform_with_zero_bias():
    assert_glorot(dense(70, 90), 70, 90)


def test_convolutions_start_glorot_uniform_with_zero_bias():
    encoder = ImageEncoder(channels=3, depth=8)
    for layer in encoder.convolutions[1:]:
        assert_glorot(layer, 16 * layer.in_channels, 16 * layer.out_channels)


def test_transposed_convolutions_start_glorot_uniform_with_zero_bias():
    decoder = ImageDecoder(inputs=9, channels=3, depth=8)
    for layer, kernel in zip(decoder.convolutions[:-1], (5, 5, 6), strict=True):
        assert layer.kernel_size == (kernel, kernel)
        assert_glorot(layer, kernel**2 * layer.in_channels, kernel**2 * layer.out_channels)


def test_every_bias_of_the_agent_starts_at_zero_and_every_norm_at_identity():
    cell = GRUCell(4, 5, has_layer_norm=True)
    assert cell.norm is not None and cell.norm.eps == 1e-3
    assert cell.norm.weight.tolist() == [1.0] * 15 and cell.norm.bias.tolist() == [0.0] * 15
    for module in (cell.gates, *MLP(4, 2, 5, 2).hidden, ImageDecoder(4, 1, 2).dense):
        assert module.bias.abs().max() == 0
