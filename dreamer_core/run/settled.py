"""Settings that the kind of actions decides."""

from __future__ import annotations

import logging
from dataclasses import replace

from dreamer_core.config import Config
from dreamer_core.types import EnvSpec

logger = logging.getLogger(__name__)


def settled(config: Config, spec: EnvSpec) -> Config:
    """Returns the config as an environment of this kind of actions is trained with.

    `reinforce_share=1`, the value for discrete actions, means 0 where they are continuous: then the
    actor learns through the dynamics alone (Appendix A), and `reward_transform=tanh` means
    identity. Any other share, 0 included, leaves both as they are.

    Args:
        config: as it was asked for.
        spec: of the environment.
    """
    behavior, world_model = config.behavior, config.world_model
    if spec.is_discrete or behavior.reinforce_share != 1:
        return config
    logger.info(
        "Actions are continuous: the actor learns through the dynamics (reinforce_share=0), from "
        "rewards as they are (reward_transform=identity); another reinforce_share keeps both "
        "settings as given"
    )
    return replace(
        config,
        behavior=replace(behavior, reinforce_share=0.0),
        world_model=replace(world_model, reward_transform="identity"),
    )
