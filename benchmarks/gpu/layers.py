"""What one convolution and one node of a graph cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.variants import Keep
from dreamer_core.bench.measure import measure, summary, synchronize
from dreamer_core.config import Config
from dreamer_core.model.networks import ImageDecoder, ImageEncoder
from dreamer_core.types import EnvSpec

NODES = 1000


def layers(config: Config, spec: EnvSpec, device: str, seconds: float, keep: Keep) -> None:
    """Each convolution forward and backward, chosen by heuristics and by trial; an empty node."""
    where = torch.device(device)
    for is_tried in (False, True):
        how = "by trial" if is_tried else "by heuristics"
        keep(f"convolutions {how}", convolutions, config, spec, where, is_tried)
    if device == "cuda":
        keep("node", time_node, where, seconds)


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


def time_layer(
    layer: nn.Module, x: Tensor, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """The layer's result for noise, and its times."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    layer = layer.to(dtype)
    x = torch.randn_like(x, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(layer(x))
    wanted = [x, *layer.parameters()]

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        torch.autograd.grad(layer(x), wanted, gradient)

    def wait() -> None:
        synchronize(device)

    times = {
        name: summary(measure(work, seconds=0.05, synchronize=wait))["median_s"]
        for name, work in (("forward", forward), ("both", both))
    }
    return layer(x).detach(), times


def time_node(device: torch.device, seconds: float) -> dict[str, Any]:
    """Seconds of a graph of tiny kernels in a row, each."""
    x, graph = torch.zeros(32, device=device), torch.cuda.CUDAGraph()
    x.add_(1)
    with torch.cuda.graph(graph):
        for _ in range(NODES):
            x.add_(1)
    found = summary(measure(graph.replay, seconds=seconds, synchronize=lambda: synchronize(device)))
    return {**found, "per_node_s": found["median_s"] / NODES}
