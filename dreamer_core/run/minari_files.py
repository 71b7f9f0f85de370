"""Episodes of a Minari dataset: HDF5 groups `episode_N` of T actions and T + 1 observations.

    observations  x0    x1    x2    x3           becomes image
    actions       a0    a1    a2                 becomes prev_action 0, a0, a1, a2
    rewards       r1    r2    r3                 becomes reward      0, r1, r2, r3
    terminations, truncations                    say in their last row how the episode ended

Images of another size are resized as those of an environment are. Actions of a Box are brought to
[-1, 1] by the bounds that the dataset declares.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from dreamer_core.envs.base import resize_image
from dreamer_core.errors import BadInput, naming
from dreamer_core.run.episode_columns import flags, numbers, one_hot
from dreamer_core.types import EnvSpec, EpisodeChunk, FloatArray, UInt8Array

_METADATA = "metadata.json"
_PREFIX = "episode_"


def is_minari(path: Path) -> bool:
    """Whether the file is HDF5, by its name."""
    return path.suffix in (".hdf5", ".h5")


def read_minari(path: Path, spec: EnvSpec) -> Iterator[tuple[str, EpisodeChunk]]:
    """Yields file and group, and the episode there, without a name.

    Raises:
        BadInput: h5py is missing, or the file cannot be read or holds something else; with the key.
    """
    h5py = _h5py(path)
    with naming(f"read the episodes in {path}", "Name the main_data.hdf5 of a Minari dataset"):
        file: Any = h5py.File(path, "r")
    with file:
        with _reading(str(path)):
            keys = list(map(str, file))
        names = [n for n in keys if n.startswith(_PREFIX) and n.removeprefix(_PREFIX).isdigit()]
        if not names:
            raise BadInput(
                f"{path}: wanted groups {_PREFIX}0, {_PREFIX}1, ... as Minari writes them, but "
                f"there are {', '.join(keys) or 'none'}"
            )
        space = _action_space(file, path)
        for name in sorted(names, key=lambda name: int(name.removeprefix(_PREFIX))):
            source = f"{path}: {name}"
            with _reading(source):
                group = _Group(file[name], source)
            yield source, _episode(group, spec, space)


def _h5py(path: Path) -> Any:
    try:
        return importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise BadInput(
            f"Wanted h5py to read {path}, but it is not installed; install it with "
            "`pip install 'dreamerv2-service[minari]'`"
        ) from error


@contextmanager
def _reading(source: str) -> Generator[None]:
    """Turns what h5py raises for a damaged file, or for another kind of object, into BadInput."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise BadInput(f"{source} cannot be read ({error}); mend it or leave it out") from error


class _Group:
    """A group whose errors name file, group and key."""

    def __init__(self, group: Any, source: str) -> None:
        self._group = group
        self._keys = list(map(str, group))
        self.source = source

    def read(self, key: str) -> Any:
        """Returns a data set."""
        if key not in self._keys:
            raise BadInput(
                f"{self.source}: wanted the key {key!r}, but there are {', '.join(self._keys)}"
            )
        with _reading(f"{self.source}/{key}"):
            item = self._group[key]
            if hasattr(item, "keys"):
                item = self._images_among(item, key)
            return np.asarray(item[()])

    def _images_among(self, parts: Any, key: str) -> Any:
        images = [name for name in parts if getattr(parts[name], "dtype", None) == np.uint8]
        if key != "observations" or len(images) != 1:
            raise BadInput(
                f"{self.source}/{key}: wanted one array, but there are the parts "
                f"{', '.join(parts)}, of which {len(images)} hold bytes; export one of them"
            )
        return parts[images[0]]


def _episode(group: _Group, spec: EnvSpec, space: dict[str, Any]) -> EpisodeChunk:
    source = group.source
    if spec.vector_size:
        raise BadInput(
            f"{source}: the environment observes a vector besides the image, which is read from "
            ".npz files (key `vector`) alone; write the episodes as such"
        )
    reward = numbers(group.read("rewards"), f"{source}/rewards")
    steps = len(reward)
    action = _actions(group.read("actions"), spec, space, f"{source}/actions")
    image = _images(group.read("observations"), spec, f"{source}/observations")
    ends = [flags(group.read(key), f"{source}/{key}") for key in ("terminations", "truncations")]
    lengths = [len(action), len(image) - 1, *map(len, ends)]
    if steps == 0 or lengths != [steps] * 4:
        raise BadInput(
            f"{source}: wanted T rewards, actions, terminations and truncations and T + 1 "
            f"observations, got {steps}, {lengths[0]}, {lengths[2]}, {lengths[3]} and "
            f"{lengths[1] + 1}"
        )
    if (ends[0] | ends[1])[:-1].any():
        raise BadInput(f"{source}: terminations and truncations are true before the last row")
    rows = np.arange(steps + 1)
    is_end = rows == steps
    return EpisodeChunk(
        incarnation=0,
        episode=0,
        first_step=0,
        image=image,
        prev_action=np.concatenate([np.zeros_like(action[:1]), action]),
        reward=np.concatenate([np.zeros(1, np.float32), reward]),
        is_first=rows == 0,
        is_last=is_end & bool(ends[0][-1] or ends[1][-1]),
        is_terminal=is_end & bool(ends[0][-1]),
    )


def _images(images: Any, spec: EnvSpec, name: str) -> UInt8Array:
    """Returns images [N, 64, 64, channels], resized, and grey where the environment's are."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise BadInput(
            f"{name}: wanted images of bytes [T + 1, height, width, channels], got "
            f"{images.dtype} {images.shape}"
        )
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    channels = spec.image_shape[2]
    if images.shape[3] == 3 and channels == 1:
        grey = [cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2GRAY) for x in images]
        images = np.stack(cast(Any, grey))[..., None]
    if images.shape[3] != channels:
        raise BadInput(
            f"{name}: wanted {channels} channels, as the environment has, got {images.shape[3]}"
        )
    if images.shape[1:] == spec.image_shape:
        return images
    return np.stack([resize_image(image) for image in images])


def _actions(action: Any, spec: EnvSpec, space: dict[str, Any], name: str) -> FloatArray:
    try:
        if space.get("type") == "Discrete":
            action = action - space.get("start", 0)
        elif space.get("type") == "Box" and not spec.is_discrete:
            low, high = (np.asarray(space[bound], np.float64) for bound in ("low", "high"))
            if np.isfinite([low, high]).all() and (high > low).all():
                action = np.clip(2 * (action - low) / (high - low) - 1, -1, 1)
            action = action.reshape(len(action), -1)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{name}: {action.dtype} {action.shape} do not fit the action_space that the dataset "
            f"declares, {space} ({error})"
        ) from error
    return one_hot(action, spec, name)


def _action_space(file: Any, path: Path) -> dict[str, Any]:
    """The action space that the dataset declares; empty if it declares none."""
    beside = path.with_name(_METADATA)
    try:
        declared = file.attrs.get("action_space")
        if declared is None and beside.is_file():
            declared = json.loads(beside.read_bytes()).get("action_space")
        space = json.loads(declared) if isinstance(declared, str | bytes) else declared
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{path}: its action_space cannot be read ({error})") from error
    return space if isinstance(space, dict) else {}
