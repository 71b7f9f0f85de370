"""Floating-point operations of a gradient step, layer by layer: its floor on any machine."""

from __future__ import annotations

from dreamer_core.config import Config
from dreamer_core.types import EnvSpec


def update_flops(config: Config, spec: EnvSpec) -> dict[str, float]:
    """Floating-point operations of one update done densely, by component.

    A multiply-add counts as two. A trained layer takes three products, forward, towards its input
    and towards its weights; the first of a network that reads data takes two.
    """
    sizes, behavior = config.world_model, config.behavior
    rows = config.replay.batch_size * config.replay.batch_length
    depth, channels = sizes.conv_depth, spec.image_shape[-1]
    stats = sizes.stoch * (sizes.classes if sizes.latent == "categorical" else 2)
    stoch = sizes.stoch * (sizes.classes if sizes.latent == "categorical" else 1)
    feat, actions, vector = sizes.deter + stoch, spec.action_size, spec.vector_size
    layers, units = sizes.head_layers, sizes.head_units
    embed = (32 * depth if channels else 0) + (units if vector else 0)

    def mlp(layers: int, units: int, outputs: int) -> float:
        return feat * units + (layers - 1) * units**2 + units * outputs

    first = 31**2 * depth * channels * 16 + vector * units
    encoder = first
    decoder = 0
    if channels:
        encoder += 16 * depth**2 * (14**2 * 2 + 6**2 * 8 + 2**2 * 32)
        decoder += (
            feat * 32 * depth
            + 25 * (32 * 4 + 25 * 4 * 2) * depth**2
            + 36 * (13**2 * 2 * depth**2 + 30**2 * depth * channels)
        )
    if vector:
        encoder += (layers - 1) * units**2
        decoder += mlp(layers, units, vector)
    dynamics = (
        (stoch + actions) * sizes.hidden
        + (sizes.hidden + sizes.deter) * 3 * sizes.deter
        + sizes.deter * sizes.hidden
        + sizes.hidden * stats
    )  # input layer, GRU and prior
    posterior = (sizes.deter + embed) * sizes.hidden + sizes.hidden * stats
    heads = (2 if sizes.has_discount_head else 1) * mlp(sizes.head_layers, sizes.head_units, 1)
    actor = mlp(behavior.layers, behavior.units, actions if spec.is_discrete else 2 * actions)
    critic = mlp(behavior.layers, behavior.units, 1)
    horizon, from_data = behavior.horizon, feat * behavior.units
    return {
        "encoder": 2 * rows * (3 * encoder - first),
        "decoder": 6 * rows * decoder,
        "observe": 6 * rows * (dynamics + posterior),
        "heads": 6 * rows * heads,
        "imagination": 2 * rows * (horizon * (dynamics + actor) + (horizon + 1) * heads),
        "slow_critic": 2 * rows * (horizon + 1) * critic,
        "actor": 2 * rows * (horizon - 1) * (3 * actor - from_data),
        "critic": 2 * rows * horizon * (3 * critic - from_data),
    }
