"""Layers of DreamerV2: image encoder and decoder, MLP heads, layer-norm GRU cell.

Weights start Glorot-uniform and biases at zero, as the released code's framework does by default;
torch's own defaults differ. Convolutions run in the channels-last memory format, which is what a
[N, H, W, C] image already is, and which is about twice as fast on CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_core.model import blocks
from dreamer_core.model.operators import conv_of_one, one_hot_linear, transposed_conv

_ENCODER_KERNEL = 4
_DECODER_KERNELS = (5, 5, 6, 6)
_LAYER_NORM_EPSILON = 1e-3
_FEW_CHANNELS = 16  # up to which torch's own transposed convolution is the slower one on CPUs


def image_to_float(image: Tensor) -> Tensor:
    """Maps uint8 images [..., H, W, C] to float32 in [-0.5, 0.5]; the only preprocessing."""
    return image.float() / 255.0 - 0.5


def dense(inputs: int, outputs: int) -> nn.Linear:
    """Makes a dense layer with Glorot-uniform weights and zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True, slots=True)
class OneHotFeatures:
    """Features [h, z] of which z is one-hot and nothing is differentiated; cheap on CPUs."""

    deter: Tensor
    """h [..., D]."""
    position: Tensor
    """Where z [..., Z] is one, int64 [..., S]."""

    @property
    def leading(self) -> torch.Size:
        """The axes before the last."""
        return self.deter.shape[:-1]

    def linear(self, layer: nn.Linear) -> Tensor:
        """Applies a dense layer, [rows, outputs]; gradients reach its weights alone."""
        deter, position = self.deter.flatten(0, -2), self.position.flatten(0, -2)
        return one_hot_linear(deter, position, layer.weight, layer.bias)

    def __getitem__(self, key: slice) -> OneHotFeatures:
        """Slices the first axis."""
        return OneHotFeatures(self.deter[key], self.position[key])


Features = Tensor | OneHotFeatures
"""What a head reads: [..., F], dense or as its parts."""


class MLP(nn.Module):
    """Dense ELU layers and a linear output.

    Args:
        inputs: width of the input.
        layers: number of hidden layers.
        units: width of each.
        outputs: width of the output.
    """

    def __init__(self, inputs: int, layers: int, units: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, *[units] * layers]
        self.hidden = nn.ModuleList(dense(a, b) for a, b in pairwise(widths))
        self.out = dense(units, outputs)

    def forward(self, x: Features) -> Tensor:
        """Maps [..., inputs] to [..., outputs]; any leading axes."""
        first, *others = cast("list[nn.Linear]", list(self.hidden))
        if isinstance(x, OneHotFeatures):
            leading, y = x.leading, x.linear(first)
        else:  # flat, since a change in place of a view costs a copy in the backward pass
            leading, y = x.shape[:-1], first(x.reshape(-1, x.shape[-1]))
        y = F.elu(y, inplace=True)
        for layer in others:
            y = F.elu(layer(y), inplace=True)
        with torch.autocast(y.device.type, enabled=False):  # values and logits in full precision
            return self.out(y.float()).view(*leading, -1)


class VectorEncoder(nn.Module):
    """Dense ELU layers that embed a vector of numbers (released code, 2022: `encoder.mlp_keys`).

    Args:
        inputs: V, size of the vector.
        layers: number of layers.
        units: width of each.
    """

    def __init__(self, inputs: int, layers: int, units: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(dense(a, b) for a, b in pairwise([inputs, *[units] * layers]))
        self.size = units
        """E, length of the embedding."""

    def forward(self, vector: Tensor) -> Tensor:
        """Maps vectors [..., V] to embeddings [..., E]."""
        for layer in self.hidden:
            vector = F.elu(layer(vector))
        return vector


class ImageEncoder(nn.Module):
    """Four strided convolutions: 64 -> 31 -> 14 -> 6 -> 2 pixels (sec. 2.1).

    Without channels there is nothing to embed: it has no layers, and E is 0.

    Args:
        channels: of the image.
        depth: channels of the first layer; each further layer doubles them.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        widths = [channels, depth, 2 * depth, 4 * depth, 8 * depth]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, _ENCODER_KERNEL, stride=2) for a, b in pairwise(widths) if channels
        )
        _init_convolutions(self.convolutions)
        self.size = 2 * 2 * widths[-1] if channels else 0
        """E, length of the embedding."""

    def forward(self, image: Tensor) -> Tensor:
        """Maps preprocessed images [..., 64, 64, channels] to embeddings [..., E]."""
        leading = image.shape[:-3]
        if not self.size:
            return image.new_zeros(*leading, 0)
        if leading.numel() == 1 and not image.is_cuda and not torch.is_grad_enabled():
            return self._embed_one(image.view(image.shape[-3:])).view(*leading, self.size)
        x = image.flatten(0, -4).permute(0, 3, 1, 2)
        first, *others = cast("list[nn.Conv2d]", list(self.convolutions))
        assert first.bias is not None
        if _is_for_gpu(x) and len(x) > 1:
            x = F.elu(blocks.conv(x, first.weight, first.bias), inplace=True)
        else:
            x = F.elu(first(x), inplace=True)
        for convolution in others:
            x = F.elu(convolution(x), inplace=True)
        return x.permute(0, 2, 3, 1).reshape(*leading, self.size)

    def _embed_one(self, x: Tensor) -> Tensor:
        """Maps one image [64, 64, channels] to its embedding [E], as a policy needs it."""
        for layer in cast("list[nn.Conv2d]", list(self.convolutions)):
            assert layer.bias is not None
            x = F.elu(conv_of_one(x, layer.weight, layer.bias), inplace=True)
        return x.flatten()


class TransposedConv(nn.ConvTranspose2d):
    """Transposed convolution [N, I, H, W] to [N, O, H', W'] with stride 2; fast on CPUs too.

    Args:
        inputs: I.
        outputs: O.
        kernel: height and width of the kernel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        """Applies it, in the form that suits the device."""
        assert self.bias is not None
        if _is_for_gpu(input) and self.kernel_size[0] % 2 == 0:
            return blocks.transposed_conv(input, self.weight, self.bias)
        if _is_for_gpu(input) or self.out_channels > _FEW_CHANNELS:
            return super().forward(input, output_size)
        return transposed_conv(input, self.weight, self.bias)


class ImageDecoder(nn.Module):
    """A dense layer and four transposed convolutions: 1 -> 5 -> 13 -> 30 -> 64 pixels (sec. 2.1).

    Args:
        inputs: width of the feature.
        channels: of the image.
        depth: channels of the last hidden layer; earlier layers double them.
    """

    def __init__(self, inputs: int, channels: int, depth: int) -> None:
        super().__init__()
        widths = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        self.dense = dense(inputs, widths[0])
        self.convolutions = nn.ModuleList(
            TransposedConv(a, b, kernel)
            for a, b, kernel in zip(widths, widths[1:], _DECODER_KERNELS, strict=False)
        )
        _init_convolutions(self.convolutions)

    def forward(self, feat: Tensor) -> Tensor:
        """Maps features [..., F] to image means [..., 64, 64, channels] around zero."""
        x = self._first_convolution(self.dense(feat.flatten(0, -2)))
        *hidden, last = list(self.convolutions)[1:]
        for layer in hidden:
            x = F.elu(layer(x), inplace=True)
        x = last(x)
        return x.permute(0, 2, 3, 1).unflatten(0, feat.shape[:-1])

    def _first_convolution(self, x: Tensor) -> Tensor:
        """Transposed convolution of a 1 x 1 map and ELU, [N, I] to [N, O, 5, 5].

        One matrix product, at less than half the time of the layer's own function on CPUs.
        """
        layer = cast("nn.ConvTranspose2d", self.convolutions[0])
        assert layer.bias is not None
        kernel = layer.weight.permute(0, 2, 3, 1)  # [I, 5, 5, O]
        pixels = (x @ kernel.flatten(1)).unflatten(1, kernel.shape[1:]) + layer.bias
        return F.elu(pixels, inplace=True).permute(0, 3, 1, 2)


class GRUCell(nn.Module):
    """GRU cell with one LayerNorm over all gates (App. C).

        reset, candidate, update = split(LayerNorm(W [x, h] + b))
        r = sigmoid(reset);  c = tanh(r * candidate);  u = sigmoid(update - 1)
        h' = u * c + (1 - u) * h

    Unlike torch's GRUCell the reset gate multiplies the candidate's pre-activation.

    Args:
        inputs: width of x.
        deter: D.
        has_layer_norm: whether there is a LayerNorm.
        memory_rows: where biases of the update gates begin, so that 1 / u, which is how long a unit
            keeps what it holds, is 2 steps for the first to that many for the last; None: zero.
    """

    def __init__(
        self, inputs: int, deter: int, *, has_layer_norm: bool, memory_rows: int | None = None
    ) -> None:
        super().__init__()
        self.gates = dense(inputs + deter, 3 * deter)
        self.norm = nn.LayerNorm(3 * deter, eps=_LAYER_NORM_EPSILON) if has_layer_norm else None
        if memory_rows is not None:
            bias = self.gates.bias if self.norm is None else self.norm.bias
            steps = torch.linspace(2, memory_rows, deter)
            with torch.no_grad():
                bias[2 * deter :] = 1 - torch.log(steps - 1)

    def forward(self, x: Tensor, deter: Tensor) -> Tensor:
        """Maps input [..., inputs] and h [..., D] to h' [..., D]."""
        gates = self.gates(torch.cat([x, deter], -1)).float()
        if self.norm is not None:
            gates = self.norm(gates)
        reset, candidate, update = gates.chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(deter, candidate, torch.sigmoid(update - 1))


def _is_for_gpu(x: Tensor) -> bool:
    """Whether x is on one, or is what only runs on one."""
    return x.is_cuda or x.dtype != torch.float32 or torch.compiler.is_compiling()


def _init_convolutions(layers: nn.ModuleList) -> None:
    for parameter in layers.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
