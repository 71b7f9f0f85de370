"""What one convolution and one node of a graph cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.variants import Work
from dreamer_core.bench.measure import measure, summary, synchronize
from dreamer_core.config import Config
from dreamer_core.model import blocks
from dreamer_core.model.networks import ImageDecoder, ImageEncoder
from dreamer_core.types import EnvSpec

NODES = 1000


def layers(config: Config, spec: EnvSpec, device: str, seconds: float) -> dict[str, Work]:
    """Each convolution forward and backward, chosen by heuristics and by trial; an empty node."""
    where = torch.device(device)
    found: dict[str, Work] = {
        f"convolutions {how}": partial(convolutions, config, spec, where, is_tried)
        for how, is_tried in (("by heuristics", False), ("by trial", True))
    }
    found["layers of few channels"] = partial(few_channels, config, spec, where)
    return {**found, "node": partial(time_node, where, seconds)} if device == "cuda" else found


def convolutions(
    config: Config, spec: EnvSpec, device: torch.device, is_tried: bool
) -> dict[str, Any]:
    """Median seconds of each layer's forward and backward pass over a batch."""
    torch.backends.cudnn.benchmark = is_tried
    channels, depth = spec.image_shape[-1], config.world_model.conv_depth
    count = config.replay.batch_size * config.replay.batch_length
    encoder = ImageEncoder(channels, depth).to(device)
    decoder = ImageDecoder(config.world_model.deter, channels, depth).to(device)
    found: dict[str, Any] = {}
    x = torch.zeros(count, channels, 64, 64, device=device)
    for index, layer in enumerate(encoder.convolutions):
        x, found[f"encoder {index}"] = time_layer(layer, x, device)
    x = torch.zeros(count, 32 * depth, 1, 1, device=device)
    for index, layer in enumerate(decoder.convolutions):
        x, found[f"decoder {index}"] = time_layer(layer, x, device)
    return found


def few_channels(config: Config, spec: EnvSpec, device: torch.device) -> dict[str, Any]:
    """The encoder's first layer and the decoder's last: plain, with channels up to 8, by blocks."""
    channels, depth = spec.image_shape[-1], config.world_model.conv_depth
    count = config.replay.batch_size * config.replay.batch_length
    found: dict[str, Any] = {}
    for how, padded in (("plain", channels), ("of 8 channels", 8), ("by blocks", channels)):
        first = nn.Conv2d(padded, depth, 4, stride=2).to(device)
        last = nn.ConvTranspose2d(depth, padded, 6, stride=2).to(device)
        x = torch.zeros(count, padded, 64, 64, device=device)
        y = torch.zeros(count, depth, 30, 30, device=device)
        forms = (blocks.conv, blocks.transposed_conv) if how == "by blocks" else (None, None)
        for name, layer, image, form in (
            ("encoder 0", first, x, forms[0]),
            ("decoder 3", last, y, forms[1]),
        ):
            found[f"{name} {how}"] = time_layer(layer, image, device, form)[1]
    return found


def time_layer(
    layer: nn.Module,
    x: Tensor,
    device: torch.device,
    form: Callable[..., Tensor] | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """The layer's result for noise, and its times; in another form, if one is given."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    layer = layer.to(dtype)
    x = torch.randn_like(x, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    wanted = [x, *layer.parameters()]

    def result() -> Tensor:
        return layer(x) if form is None else form(*wanted)

    gradient = torch.randn_like(result())

    def forward() -> None:
        with torch.no_grad():
            result()

    def both() -> None:
        torch.autograd.grad(result(), wanted, gradient)

    def wait() -> None:
        synchronize(device)

    times = {
        name: summary(measure(work, seconds=0.05, synchronize=wait))["median_s"]
        for name, work in (("forward", forward), ("both", both))
    }
    return result().detach(), times


def time_node(device: torch.device, seconds: float) -> dict[str, Any]:
    """Seconds of a graph of tiny kernels in a row, each."""
    x, graph = torch.zeros(32, device=device), torch.cuda.CUDAGraph()
    x.add_(1)
    with torch.cuda.graph(graph):
        for _ in range(NODES):
            x.add_(1)
    found = summary(measure(graph.replay, seconds=seconds, synchronize=lambda: synchronize(device)))
    return {**found, "per_node_s": found["median_s"] / NODES}
