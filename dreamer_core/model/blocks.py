"""Convolutions with stride 2 as dense ones over blocks of 2 x 2 pixels, which suits GPUs.

cuDNN has no tensor-core kernels for one or three channels, and rearranges whole batches of images
around those that it takes instead (docs/performance.md). Blocks make four times the channels and no
stride.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_CHANNELS = 8  # of which tensor cores read a multiple


def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution with stride 2; the plain form is `F.conv2d(x, weight, bias, stride=2)`.

    Args:
        x: [N, I, H, W], H and W even; fast if channels last.
        weight: [O, I, k, k], k even.
        bias: [O].

    Returns:
        [N, O, (H - k) / 2 + 1, (W - k) / 2 + 1].
    """
    (inputs, height, width), (outputs, _, k, _) = x.shape[1:], weight.shape
    blocks = x.permute(0, 2, 3, 1).reshape(-1, height // 2, 2, width // 2, 2, inputs)
    blocks = blocks.transpose(2, 3).flatten(3)  # [N, H / 2, W / 2, (p, q, I)]
    kernel = weight.view(outputs, inputs, k // 2, 2, k // 2, 2)
    kernel = kernel.permute(0, 3, 5, 1, 2, 4).reshape(outputs, 4 * inputs, k // 2, k // 2)
    missing = -4 * inputs % _CHANNELS
    return F.conv2d(
        F.pad(blocks, (0, missing)).permute(0, 3, 1, 2),
        F.pad(kernel, (0, 0, 0, 0, 0, missing)),
        bias,
    )


def transposed_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Transposed convolution; the plain form is `F.conv_transpose2d(x, weight, bias, stride=2)`.

    Output pixel (2 i + p, 2 j + q) comes as channels (p, q, O) of pixel (i, j) of a convolution.

    Args:
        x: [N, I, H, W]; fast if channels last.
        weight: [I, O, k, k], k even.
        bias: [O].

    Returns:
        [N, O, 2 H + k - 2, 2 W + k - 2], channels last.
    """
    inputs, outputs, k, _ = weight.shape
    half = k // 2
    kernel = weight.view(inputs, outputs, half, 2, half, 2).flip(2, 4)
    kernel = kernel.permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, half, half)
    missing = -4 * outputs % _CHANNELS
    phases = F.conv2d(
        x,
        F.pad(kernel, (0, 0, 0, 0, 0, 0, 0, missing)),
        F.pad(bias.repeat(4), (0, missing)),
        padding=half - 1,
    )
    phases = phases.permute(0, 2, 3, 1)[..., : 4 * outputs].unflatten(-1, (2, 2, outputs))
    return phases.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
