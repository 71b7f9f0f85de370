"""The same functions as torch's own, computed in a way that suits CPUs.

Each has a plain form that defines it; tests compare values and gradients. CUDA takes the plain
form.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_STRIDE = 2
_IMAGES_AT_ONCE = 16  # so that what they add stays in the L2 cache
_ROWS_PER_BAG = 2048  # about what keeps a slice of the gradient in the L2 cache

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MALLOC_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Makes glibc reuse what large tensors freed, in place of returning it to the system.

    By default each large temporary is mapped anew, and its pages are cleared one by one as they
    are touched: 10% to 18% of a gradient step on a CPU. The process keeps its peak size.

    Returns:
        Whether it took effect; false on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),  # an unsigned number inside: never
        (_M_TOP_PAD, _MALLOC_TOP_PAD_BYTES),
    )
    accepted = [bool(mallopt(name, value)) for name, value in settings]
    return all(accepted)


def transposed_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Transposed convolution with stride 2, as the decoder's layers are.

    The plain form is `F.conv_transpose2d(x, weight, bias, stride=2)`, whose forward pass on CPUs
    runs at a third of the matrix rate or less for few output channels, at a twentieth for one. Here
    an ordinary convolution makes the four pixels under each input pixel as four groups of channels;
    or, for one output channel, one matrix product makes what each input pixel adds to its k x k
    patch, and shifted planes are summed.

    Args:
        x: [N, I, H, W], channels last.
        weight: [I, O, k, k].
        bias: [O].

    Returns:
        [N, O, 2 H + k - 2, 2 W + k - 2], channels last.
    """
    return _TransposedConv.apply(x, weight, bias)  # type: ignore[no-any-return]


def conv_of_one(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution with stride 2 of a single image, without autograd, as one matrix product.

    The plain form is `F.conv2d(x, weight, bias, stride=2)`, which on CPUs rearranges the weights
    at every call; that takes longer than the convolution of one image.

    Args:
        image: [H, W, I].
        weight: [O, I, k, k], read without a copy if it is stored in the order k, k, I, O.
        bias: [O].

    Returns:
        [H', W', O].
    """
    (height, width, inputs), (outputs, _, k, _) = image.shape, weight.shape
    rows, columns = ((size - k) // _STRIDE + 1 for size in (height, width))
    patches = image.contiguous().as_strided(
        (rows, columns, k, k * inputs),
        (_STRIDE * width * inputs, _STRIDE * inputs, width * inputs, 1),
    )
    kernel = weight.permute(2, 3, 1, 0).reshape(-1, outputs)
    pixels = torch.addmm(bias, patches.reshape(rows * columns, -1), kernel)
    return pixels.view(rows, columns, outputs)


def one_hot_linear(deter: Tensor, position: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Dense layer on [h, z] where z is one-hot, so that a sum of weight columns replaces a product.

    The plain form is `F.linear(cat([h, z]), weight, bias)`. No gradient reaches h or z.

    Args:
        deter: h [M, D], detached.
        position: where z [M, Z] is one, [M, S].
        weight: [outputs, D + Z].
        bias: [outputs].
    """
    return _OneHotLinear.apply(deter, position, weight, bias)  # type: ignore[no-any-return]


def add_columns(y: Tensor, position: Tensor, weight: Tensor) -> Tensor:
    """Returns y [M, outputs] plus columns of weight [outputs, Z] at position [M, S]; y is lost."""
    rows = weight.t().contiguous()  # free for a weight that is stored column by column
    columns = F.embedding_bag(position, rows, mode="sum")
    # In place it is faster, but torch 2.11 compiles that to gradients of the y before.
    return y + columns if torch.compiler.is_compiling() else y.add_(columns)


class _TransposedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        is_gray = weight.shape[1] == 1 and weight.shape[-1] % _STRIDE == 0
        return (_by_patches if is_gray else _by_phases)(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        return torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight.contiguous(memory_format=torch.channels_last),
            [weight.shape[1]],
            [_STRIDE, _STRIDE],
            [0, 0],
            [1, 1],
            True,
            [0, 0],
            1,
            list(ctx.needs_input_grad),
        )


def _by_phases(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Output pixel (2 i + p, 2 j + q) as channels (p, q, O) of pixel (i, j) of a convolution."""
    n, (inputs, outputs, k, _) = len(x), weight.shape
    half = (k + 1) // _STRIDE
    odd = _STRIDE * half - k
    kernel = F.pad(weight, (0, odd, 0, odd)).view(inputs, outputs, half, 2, half, 2).flip(2, 4)
    kernel = kernel.permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, half, half)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    phases = F.conv2d(x, kernel, bias.repeat(4), padding=half - 1).permute(0, 2, 3, 1)
    rows, columns = phases.shape[1:3]
    image = torch.empty(
        (n, outputs, 2 * rows, 2 * columns), dtype=x.dtype, memory_format=torch.channels_last
    )
    pixels = image.permute(0, 2, 3, 1).view(n, rows, 2, columns, 2, outputs)
    pixels.copy_(phases.unflatten(-1, (2, 2, outputs)).transpose(2, 3))
    return image[..., :-1, :-1].contiguous(memory_format=torch.channels_last) if odd else image


def _by_patches(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One output channel; k even."""
    (n, inputs, height, width), half = x.shape, weight.shape[-1] // 2
    kernel = weight.flatten(1).t().contiguous()  # [k * k, I]
    out_height, out_width = height + half - 1, width + half - 1
    image = x.new_empty(n, 1, 2 * out_height, 2 * out_width)
    parts = image.view(n, out_height, 2, out_width, 2).split(_IMAGES_AT_ONCE)
    for some, out in zip(x.split(_IMAGES_AT_ONCE), parts, strict=True):
        pixels = some.permute(0, 2, 3, 1).reshape(-1, inputs)
        # Row (a, p, b, q) is what tap (2a + p, 2b + q) of the kernel adds.
        taps = (kernel @ pixels.t()).view(half, 2, half, 2, len(some), height, width)
        planes = bias.expand(2, 2, len(some), out_height, out_width).contiguous()
        for a in range(half):
            for b in range(half):
                planes[..., a : a + height, b : b + width] += taps[a, :, b]
        out.copy_(planes.permute(2, 3, 0, 4, 1))
    return image


class _OneHotLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, deter: Tensor, position: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(deter, position)
        ctx.inputs = weight.shape[-1]
        size = deter.shape[-1]
        y = F.linear(deter, weight[:, :size], bias)
        return add_columns(y, position, weight[:, size:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        deter, position = ctx.saved_tensors
        weight_gradient = gradient.new_empty(gradient.shape[-1], ctx.inputs)
        weight_gradient[:, : deter.shape[-1]] = gradient.t() @ deter
        columns = weight_gradient.shape[-1] - deter.shape[-1]
        weight_gradient[:, deter.shape[-1] :] = sum_by_position(gradient, position, columns).t()
        return None, None, weight_gradient, gradient.sum(0)


def sum_by_position(values: Tensor, position: Tensor, size: int) -> Tensor:
    """Sums for each p in 0 .. size - 1 the rows of values [M, N] with p in position [M, S].

    Returns:
        [size, N], which is z^T @ values for the one-hot z [M, size].
    """
    total = values.new_zeros(size, values.shape[-1])
    slices = zip(values.split(_ROWS_PER_BAG), position.split(_ROWS_PER_BAG), strict=True)
    for some_values, some_position in slices:
        key = some_position.t().reshape(-1)  # [S * M], so that an entry's row is its index mod M
        order = key.argsort(stable=True)
        count = key.bincount(minlength=size)
        total += F.embedding_bag(
            order % len(some_values), some_values, count.cumsum(0) - count, mode="sum"
        )
    return total
