"""What the agent sees of a Gymnasium observation besides the image: numbers in one vector."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import MOST_NUMBERS, EnvironmentCrashed, UnsupportedEnvironment
from dreamer_core.envs.observations import ObservationPart, foreign_space_flaw, names_of, parts_of
from dreamer_core.types import FloatArray

_KINDS = (spaces.Box, spaces.MultiBinary, spaces.Discrete, spaces.MultiDiscrete)


class VectorReader:
    """Joins parts of an observation to a vector [V], in the order of their names.

    Numbers of a Box are taken as they are, neither scaled nor cut, those of several axes one behind
    the other as in memory; a Discrete or MultiDiscrete is one-hot.

    Args:
        task: for words.
        parts: of the observation.
    """

    def __init__(self, task: str, parts: list[ObservationPart]) -> None:
        self._task, self._parts = task, parts
        self.size = sum(_width(part.space) for part in parts)
        """V."""

    def read(self, observation: Any) -> FloatArray:
        """Returns the vector of an observation.

        Raises:
            EnvironmentCrashed: a part is unlike the declared one, or not finite in float32.
        """
        vectors = [self._flat(part, part.of(observation)) for part in self._parts]
        return np.concatenate(vectors)

    def _flat(self, part: ObservationPart, value: Any) -> FloatArray:
        """Returns one part's numbers."""
        space, name = part.space, part.name or "its observation"
        if value.shape != space.shape or value.dtype.kind not in "biuf":
            raise EnvironmentCrashed(
                f"{self._task} declares {name} as {space}, but returned {value.dtype} of shape "
                f"{value.shape}; correct its observation or its space"
            )
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return self._one_hot(space, name, value)
        with np.errstate(over="ignore"):
            flat = value.ravel().astype(np.float32)
        if not np.isfinite(flat).all():
            raise EnvironmentCrashed(
                f"{self._task} returned a number in {name} that is not finite in float32: "
                f"{value!r}; correct its observation"
            )
        return flat

    def _one_hot(self, space: Any, name: str, value: Any) -> FloatArray:
        counts = _counts(space)
        index = (value - space.start).ravel()
        if not ((index >= 0) & (index < counts) & (index == np.floor(index))).all():
            raise EnvironmentCrashed(
                f"{self._task} declares {name} as {space}, but returned {value!r}; correct its "
                "observation or its space"
            )
        flat = np.zeros(counts.sum(), np.float32)
        flat[np.cumsum(counts) - counts + index.astype(int)] = 1
        return flat


def vector_reader(config: EnvConfig, space: Any) -> VectorReader | None:
    """Returns what reads the vector out of observations of a space; None if there is none to read.

    It is what `config.vector_keys` name, or the whole observation if that is a vector.

    Raises:
        UnsupportedEnvironment: a name is no part of the observation, or no vector.
    """
    parts = {part.name: part for part in parts_of(space)}
    whole = parts.get("")
    if whole is not None and not config.vector_keys:
        is_flat = not isinstance(whole.space, spaces.Box) or len(whole.space.shape) <= 1
        is_vector = is_flat and vector_flaw(whole.space) is None
        return _reader(config.task, [whole]) if is_vector else None
    for key in config.vector_keys:
        flaw = vector_flaw(parts[key].space) if key in parts else "is no part of it"
        if flaw is not None:
            raise UnsupportedEnvironment(
                f"vector_keys={config.vector_keys}: {key} {flaw}; {config.task} observes "
                f"{names_of(list(parts.values()))}"
            )
    chosen = [parts[key] for key in config.vector_keys]
    return _reader(config.task, chosen) if chosen else None


def _reader(task: str, parts: list[ObservationPart]) -> VectorReader:
    """Returns what reads these parts, unless they are too many numbers."""
    reader = VectorReader(task, parts)
    if reader.size > MOST_NUMBERS:
        raise UnsupportedEnvironment(
            f"{task} observes {', '.join(str(part.space) for part in parts)}, which is a vector of "
            f"{reader.size:,} numbers, one for each value of a choice; up to {MOST_NUMBERS:,} are "
            "taken. Observe numbers of a Box instead, or fewer"
        )
    return reader


def vector_flaw(space: Any) -> str | None:
    """Returns why a part of an observation is not taken as a vector; None if it is."""
    if not isinstance(space, _KINDS):
        return foreign_space_flaw(space) or "is no Box, Discrete, MultiDiscrete or MultiBinary"
    box = cast(Any, space)
    if box.dtype.kind not in "biuf" or not _width(box):
        return f"holds no numbers but {space}"
    return None


def _counts(space: Any) -> Any:
    """Classes of each choice, int64 [choices]."""
    return np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec).ravel()


def _width(space: Any) -> int:
    """Numbers that a part of an observation becomes."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return int(_counts(space).sum())
    return math.prod(space.shape)
