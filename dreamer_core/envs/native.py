"""An environment's own terms: its raw observations in, actions as it takes them out.

For a policy that acts outside a run, where no `Environment` stands between the two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import Seen, resize_image
from dreamer_core.envs.gymnasium import GymnasiumEnvironment
from dreamer_core.envs.observations import ImageReader, ObservationPart, image_flaw
from dreamer_core.errors import BadInput
from dreamer_core.types import EnvSpec, FloatArray, UInt8Array


class Terms(Protocol):
    """What a policy needs of an environment that it does not step itself."""

    def read(self, observation: Any) -> Seen:
        """Returns what training would have seen."""
        ...

    def native(self, action: FloatArray) -> Any:
        """Returns an action [A] as the environment takes it."""
        ...


class ScreenTerms:
    """Of suites that are no Gymnasium: uint8 images of any size; an index, or numbers in [-1, 1].

    Args:
        config: of the run.
        spec: of its environment.
    """

    def __init__(self, config: EnvConfig, spec: EnvSpec) -> None:
        self._config, self._spec = config, spec
        self._readers: dict[tuple[int, ...], ImageReader] = {}

    def read(self, observation: Any) -> Seen:
        """Returns a uint8 image [H, W], [H, W, 1 or 3] or [1 or 3, H, W] as training saw it.

        Raises:
            BadInput: it is no such image, or has no colours where the agent sees them.
        """
        image = np.asarray(observation)
        if image.dtype != np.uint8:
            raise self._refusal(image, f"holds {image.dtype}")
        if image.shape not in self._readers:
            self._readers[image.shape] = self._reader_of(image)
        return Seen(resize_image(self._readers[image.shape].read(image)))

    def native(self, action: FloatArray) -> Any:
        """Returns the index of a discrete action, and any other as it is."""
        return int(action.argmax()) if self._spec.is_discrete else action

    def _reader_of(self, image: UInt8Array) -> ImageReader:
        """Returns what reads images of this shape."""
        space = spaces.Box(0, 255, image.shape, np.uint8)
        flaw = image_flaw(space)
        if flaw is not None:
            raise self._refusal(image, flaw)
        reader = ImageReader(
            "it", ObservationPart((), space), is_grayscale=self._config.is_grayscale
        )
        channels = self._spec.image_shape[-1]
        if resize_image(reader.read(image)).shape[-1] != channels:
            raise self._refusal(image, f"has not the {channels} channels that the agent sees")
        return reader

    def _refusal(self, image: Any, flaw: str) -> BadInput:
        return BadInput(
            f"Wanted a uint8 image of {self._config.task}, [H, W] or [H, W, 1 or 3], but the "
            f"observation of shape {image.shape} {flaw}"
        )


def terms_of(config: EnvConfig, spec: EnvSpec, env: gymnasium.Env[Any, Any] | None) -> Terms:
    """Returns the terms of the environment that a config names.

    Args:
        config: of the run.
        spec: of its environment, as the agent was trained.
        env: its spaces are asked. None: Gymnasium environments are made once, asked and closed.

    Raises:
        BadInput: the environment cannot be made, or has other sizes than the agent was trained for.
        EnvironmentCrashed: its own code raised.
    """
    if config.suite != "gymnasium" and env is None:
        return ScreenTerms(config, spec)
    terms = GymnasiumEnvironment(config, seed=0, env=env)
    if env is None:
        terms.close()  # the spaces are read, and all that is needed
    got = replace(terms.spec, action_names=None)
    if got != replace(spec, action_names=None):
        raise BadInput(
            f"The agent was trained with {spec}, but the environment has {got}; give the one that "
            "it was trained in, wrapped in the same way"
        )
    return terms
