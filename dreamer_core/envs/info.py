"""Numbers of a Gymnasium environment's `info` that the user wants to see of each episode."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from dreamer_core.envs.base import EnvironmentCrashed

logger = logging.getLogger(__name__)


class EpisodeInfo:
    """The last value in the episode of each key, whenever the environment told it.

    A key of a dictionary inside `info` is joined by slashes, as in `episode/r`.

    Args:
        task: for words.
        keys: that the user named.
    """

    def __init__(self, task: str, keys: tuple[str, ...]) -> None:
        self._task, self._keys = task, keys
        self._told: set[str] = set()
        self._values: dict[str, float] = {}
        self._has_warned = False

    def begin(self, info: Any) -> dict[str, float]:
        """Forgets the episode before, and returns the values that a reset tells."""
        self._values = {}
        return self.take(info)

    def take(self, info: Any) -> dict[str, float]:
        """Returns the episode's values after a frame.

        Raises:
            EnvironmentCrashed: what lies under a key is not one number, or there is no mapping.
        """
        if not self._keys:
            return {}
        if not isinstance(info, Mapping):
            raise EnvironmentCrashed(
                f"{self._task} must return a dictionary as its info, but returned {info!r}; "
                "correct it, or leave --env.log-info out"
            )
        told = cast("Mapping[Any, Any]", info)
        self._told |= {str(key) for key in told}
        for key in self._keys:
            value = _found(told, key)
            if value is not None:
                self._values[key] = self._number(key, value)
        return dict(self._values)

    def warn_of_missing(self) -> None:
        """Says once which keys an episode never told, with those that it did."""
        missing = [key for key in self._keys if key not in self._values]
        if missing and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s told no %s (--env.log-info) in the info of a whole episode; it told %s",
                self._task,
                ", ".join(missing),
                ", ".join(sorted(self._told)) or "nothing",
            )

    def _number(self, key: str, value: Any) -> float:
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in "biuf":
            raise EnvironmentCrashed(
                f"{self._task} must tell one number or truth value as {key!r} in its info, since "
                f"--env.log-info names it, but told {value!r}; correct it, or leave that key out"
            )
        return float(array)


def _found(info: Mapping[Any, Any], key: str) -> Any:
    """Returns what lies under a key, or under a path of keys; None if nothing does."""
    if key in info:
        return info[key]
    first, _, rest = key.partition("/")
    inner = info.get(first)
    return _found(cast("Mapping[Any, Any]", inner), rest) if isinstance(inner, Mapping) else None
