"""Convolutions by blocks against torch's own: values and gradients, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer_core.model import blocks


def double(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def assert_same(ours: Tensor, theirs: Tensor, wanted: list[Tensor]) -> None:
    assert torch.allclose(ours, theirs, atol=1e-12)
    gradient = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, wanted, gradient),
        torch.autograd.grad(theirs, wanted, gradient),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("k", [2, 4, 6])
def test_a_convolution_by_blocks_is_torchs(channels, k):
    x, weight, bias = double(3, channels, 12, 10), double(5, channels, k, k), double(5)
    theirs = F.conv2d(x, weight, bias, stride=2)
    assert_same(blocks.conv(x, weight, bias), theirs, [x, weight, bias])


@pytest.mark.parametrize("outputs", [1, 3, 4])
@pytest.mark.parametrize("k", [2, 4, 6])
def test_a_transposed_convolution_by_blocks_is_torchs(outputs, k):
    x, weight, bias = double(3, 5, 6, 7), double(5, outputs, k, k), double(outputs)
    theirs = F.conv_transpose2d(x, weight, bias, stride=2)
    ours = blocks.transposed_conv(x, weight, bias)
    assert_same(ours, theirs, [x, weight, bias])
    assert ours.is_contiguous(memory_format=torch.channels_last)
