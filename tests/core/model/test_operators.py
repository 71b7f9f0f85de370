"""Each operator gives the values and gradients of its plain form."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from dreamer_core.model.networks import MLP, OneHotFeatures
from dreamer_core.model.operators import (
    add_columns,
    one_hot_linear,
    sum_by_position,
    transposed_conv,
)
from tests.core.small import generator

S, C, D = 3, 4, 5


def one_hot(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random (position [rows, S], the dense z [rows, S * C] that it stands for)."""
    position = torch.randint(0, C, (rows, S), generator=generator()) + torch.arange(S) * C
    return position, torch.zeros(rows, S * C).scatter_(1, position, 1.0)


@pytest.mark.parametrize("images", [1, 16, 33])
@pytest.mark.parametrize(("channels", "size"), [(1, 6), (1, 5), (3, 6), (4, 5), (2, 2)])
def test_the_transposed_convolution_and_its_gradients_are_those_of_torch(images, channels, size):
    rng = generator()
    x = torch.randn(images, 7, 7, 3, generator=rng).permute(0, 3, 1, 2).requires_grad_()
    weight = torch.randn(3, channels, size, size, generator=rng).requires_grad_()
    bias = torch.randn(channels, generator=rng).requires_grad_()
    ours = transposed_conv(x, weight, bias)
    plain = F.conv_transpose2d(x, weight, bias, stride=2)
    assert ours.shape == plain.shape == (images, channels, 12 + size, 12 + size)
    assert torch.allclose(ours, plain, atol=1e-5)
    upstream = torch.randn(plain.shape, generator=rng)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weight, bias), upstream),
        torch.autograd.grad(plain, (x, weight, bias), upstream),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-3)


def test_a_frozen_kernel_gets_no_gradient_and_the_input_still_does():
    x = torch.randn(2, 3, 7, 7, generator=generator()).requires_grad_()
    weight = torch.randn(3, 1, 6, 6, generator=generator())
    transposed_conv(x, weight, torch.zeros(1)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("rows", [1, 6, 5000])  # the last needs three slices
def test_a_dense_layer_on_one_hot_features_is_the_plain_one(rows):
    position, z = one_hot(rows)
    rng = generator(1)
    deter = torch.randn(rows, D, generator=rng)
    weight = torch.randn(2, D + S * C, generator=rng).requires_grad_()
    bias = torch.randn(2, generator=rng).requires_grad_()
    ours = one_hot_linear(deter, position, weight, bias)
    plain = F.linear(torch.cat([deter, z], -1), weight, bias)
    assert torch.allclose(ours, plain, atol=1e-5)
    upstream = torch.randn(plain.shape, generator=rng)
    for a, b in zip(
        torch.autograd.grad(ours, (weight, bias), upstream),
        torch.autograd.grad(plain, (weight, bias), upstream),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-3)


def test_an_mlp_reads_one_hot_features_as_it_reads_dense_ones():
    position, z = one_hot(6)
    deter = torch.randn(6, D, generator=generator())
    mlp = MLP(D + S * C, layers=2, units=8, outputs=2)
    features = OneHotFeatures(deter.view(2, 3, D), position.view(2, 3, S))
    dense = torch.cat([deter, z], -1).view(2, 3, -1)
    assert torch.allclose(mlp(features), mlp(dense), atol=1e-6)
    assert torch.allclose(mlp(features[1:]), mlp(dense[1:]), atol=1e-6)


@pytest.mark.parametrize("is_by_column", [False, True])
def test_added_columns_are_the_product_with_the_one_hot(is_by_column):
    position, z = one_hot(6)
    weight = torch.randn(2, S * C, generator=generator())
    if is_by_column:
        weight = weight.t().contiguous().t()
    y = torch.ones(6, 2)
    assert torch.allclose(add_columns(y.clone(), position, weight), y + z @ weight.t(), atol=1e-6)


def test_rows_are_summed_by_position_and_a_position_without_rows_gives_zero():
    values = torch.tensor([[1.0], [10.0], [100.0]])
    position = torch.tensor([[0, 3], [0, 4], [1, 3]])
    assert sum_by_position(values, position, 6).flatten().tolist() == [11, 100, 0, 101, 10, 0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_freed_memory_is_kept_for_the_next_tensor():
    program = """
import resource, torch
from dreamer_core.model.operators import keep_freed_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 << 20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

mapped = faults()
assert keep_freed_memory()
faults(), faults()
print(mapped, faults())
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    mapped, kept = (int(word) for word in out.split())
    assert kept < mapped / 20
