"""Episodes in files of other programs, aligned as the chart of types.py says, or refused by name.

Read are `.npz` files of one episode each, as `dreamer replay export` writes them (`prev_action`)
or the authors' code (`action`), and HDF5 files of Minari (minari_files.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_core.errors import BadInput, naming
from dreamer_core.files import NPZ_ERRORS
from dreamer_core.replay.checks import check_columns, check_flags
from dreamer_core.replay.format import RowLayout
from dreamer_core.run.episode_columns import flags, numbers, one_hot
from dreamer_core.run.minari_files import is_minari, read_minari
from dreamer_core.types import EnvSpec, EpisodeChunk, FloatArray

_KNOWN = (".npz", ".hdf5", ".h5")
_NAMES = ("incarnation", "episode", "first_step")


@dataclass(frozen=True, slots=True)
class EpisodeFile:
    """A file, and the place in its run of the episode in it, if it says so."""

    path: Path
    place: tuple[int, int, int] | None
    """(incarnation, episode, first step)."""


def find_files(paths: Sequence[Path]) -> list[EpisodeFile]:
    """Returns the episode files that are named or lie in directories that are, in order.

    Files that all name their episode, each another, come in the order of these names; others by
    the order of `paths` and, in a directory, of their own names, numbers counting as numbers.

    Raises:
        BadInput: a path is none or holds no episode, or a file cannot be read.
    """
    files = dict.fromkeys(file for path in paths for file in _files_at(path))
    found = [EpisodeFile(file, None if is_minari(file) else _place_of(file)) for file in files]
    places = [file.place for file in found if file.place is not None]
    if len(set(places)) == len(found):
        return sorted(found, key=lambda file: file.place or ())
    return [replace(file, place=None) for file in found]


def read_files(files: Sequence[EpisodeFile], spec: EnvSpec) -> Iterator[EpisodeChunk]:
    """Yields each episode, checked; those without a name are numbered in incarnation 0.

    Raises:
        BadInput: a file cannot be read, or holds something else; names it and the key.
    """
    layout, number = RowLayout.of(spec), 0
    before: tuple[Path, EpisodeChunk] | None = None
    for file in files:
        if is_minari(file.path):
            read = read_minari(file.path, spec)
        else:
            read = iter([(str(file.path), _read_npz(file.path, spec))])
        for source, episode in read:
            if file.place is None:
                episode = replace(episode, incarnation=0, episode=number)  # noqa: PLW2901
            _check(episode, spec, layout, source)
            if before is not None:
                _require_after(episode, source, *before)
            before = file.path, episode
            yield episode
            number += 1


def _files_at(path: Path) -> list[Path]:
    """The episode files that a path stands for."""
    with naming(f"read episodes from {path}", "Name .npz or .hdf5 files, or directories of them"):
        if not path.is_dir():
            path.stat()
            found = [path]
        else:
            found = sorted(
                (each for each in path.rglob("*") if each.suffix in _KNOWN and each.is_file()),
                key=lambda each: [
                    (int(w), "") if w.isdigit() else (-1, w) for w in re.split(r"(\d+)", str(each))
                ],
            )
    if not found or not all(each.suffix in _KNOWN for each in found):
        raise BadInput(
            f"Wanted episodes in {path}, but found no .npz and no .hdf5 file; name files that "
            "`dreamer replay export`, the authors' code or Minari wrote, or their directory"
        )
    return [each.resolve() for each in found]


class _Npz:
    """A .npz file, whose errors name it and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with naming(f"read the episode {path}", "Name an episode that can be read"):
                self._file = np.load(path)
            self.keys = tuple(self._file.keys())
        except NPZ_ERRORS as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(
                f"Wanted an episode, but {path} is no whole .npz file of arrays; write it with "
                "numpy.savez, or leave it out"
            ) from error

    def __getitem__(self, key: str) -> Any:
        if key not in self.keys:
            raise BadInput(
                f"{self.path}: wanted the key {key!r}, but there are {', '.join(self.keys)}. "
                "Wanted are image, action (or prev_action), reward and is_terminal or discount, "
                "and vector where the environment has numbers to be seen"
            )
        try:
            return self._file[key]
        except NPZ_ERRORS as error:
            raise BadInput(f"{self.path}: {key} cannot be read ({error})") from error

    def get(self, *keys: str) -> Any:
        """The first of these that is there, else None."""
        return next((self[key] for key in keys if key in self.keys), None)


def _place_of(path: Path) -> tuple[int, int, int] | None:
    file = _Npz(path)
    if not all(key in file.keys for key in _NAMES):
        return None
    values = [np.asarray(file[key]) for key in _NAMES]
    if any(value.ndim > 0 or value.dtype.kind not in "iu" for value in values):
        raise BadInput(
            f"{path}: wanted a whole number each in {', '.join(_NAMES)}, got "
            f"{', '.join(f'{value.dtype} {value.shape}' for value in values)}"
        )
    incarnation, episode, first_step = map(int, values)
    return incarnation, episode, first_step


def _read_npz(path: Path, spec: EnvSpec) -> EpisodeChunk:
    file = _Npz(path)
    incarnation, episode, first_step = _place_of(path) or (0, 0, 0)
    reward = numbers(file["reward"], f"{path}: reward")
    rows = len(reward)
    is_first = file.get("is_first", "reset")
    if is_first is None:
        is_first = np.arange(rows) == -first_step
    is_last = file.get("is_last")
    if is_last is None:
        is_last = np.arange(rows) == rows - 1
    action = file["prev_action" if "prev_action" in file.keys else "action"]
    prev_action = one_hot(action, spec, f"{path}: action")
    if action.ndim == 1 and first_step == 0:
        prev_action[:1][action[:1] == 0] = 0  # the number of a choice cannot say that there is none
    vector = file["vector"] if spec.vector_size else None
    image = file["image"] if spec.image_shape[-1] else file.get("image")
    if image is None:  # of an environment that is seen as numbers alone
        image = np.zeros((rows, *spec.image_shape), np.uint8)
    return EpisodeChunk(
        incarnation=incarnation,
        episode=episode,
        first_step=first_step,
        image=image,
        prev_action=prev_action,
        reward=reward,
        is_first=flags(is_first, f"{path}: is_first"),
        is_last=flags(is_last, f"{path}: is_last"),
        is_terminal=_is_terminal(file, path),
        vector=None if vector is None else numbers(vector, f"{path}: vector"),
    )


def _is_terminal(file: _Npz, path: Path) -> Any:
    """Of older versions of the authors' code, where the discount is 0."""
    if "is_terminal" in file.keys or "discount" not in file.keys:
        return flags(file["is_terminal"], f"{path}: is_terminal")
    discount = numbers(file["discount"], f"{path}: discount")
    if not ((discount >= 0) & (discount <= 1)).all():  # so that NaN is refused
        raise BadInput(f"{path}: discount: wanted numbers from 0 to 1, 0 where the task has ended")
    return discount == 0


def _check(episode: EpisodeChunk, spec: EnvSpec, layout: RowLayout, source: str) -> None:
    """Raises BadInput, with the source, for an episode that is not as types.py says."""
    try:
        check_columns(episode, layout)
        check_flags(episode)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{source}: {error}. The environment has images {layout.image_shape}, actions of "
            f"{layout.action_size} and vectors of {layout.vector_size}; nothing was imported"
        ) from error
    begins = int(episode.first_step == 0)
    if begins and (episode.prev_action[0].any() or episode.reward[0] != 0):
        raise BadInput(
            f"{source}: wanted no action and no reward in row 0, got action "
            f"{episode.prev_action[0].tolist()} and reward {episode.reward[0]:g}. Row t holds the "
            "action that led to image t and the reward that came with it; if yours holds the "
            "action taken at image t, move actions (and rewards) down by one row"
        )
    flaw = _action_flaw(episode.prev_action[begins:], spec)
    if flaw is not None:
        row, wanted = flaw
        raise BadInput(
            f"{source}: action in row {row + begins}: wanted {wanted}, got "
            f"{episode.prev_action[row + begins].tolist()}"
        )


def _require_after(episode: EpisodeChunk, source: str, path: Path, before: EpisodeChunk) -> None:
    """Raises BadInput for rows that the file before it holds too, or that follow its end."""
    name, end = (before.incarnation, before.episode), before.first_step + len(before)
    is_over = bool(before.is_last[-1])
    if (episode.incarnation, episode.episode) == name and (episode.first_step < end or is_over):
        raise BadInput(
            f"{source}: begins at step {episode.first_step} of episode {name[1]} of incarnation "
            f"{name[0]}, but {path} {'ends it with' if is_over else 'holds it up to'} step "
            f"{end - 1}; leave one of the two out"
        )


def _action_flaw(action: FloatArray, spec: EnvSpec) -> tuple[int, str] | None:
    """The first row that is no action of the environment, and what was wanted."""
    if spec.is_discrete:
        classes = spec.action_classes or (spec.action_size,)
        parts = np.split(action, np.cumsum(classes)[:-1], axis=1)
        is_good = np.isin(action, (0, 1)).all(1)
        for part in parts:
            is_good &= part.sum(1) == 1
        wanted = f"one-hot of {', '.join(map(str, classes))} choices"
    else:
        is_good, wanted = (np.abs(action) <= 1).all(1), "entries in [-1, 1]"
    bad = np.flatnonzero(~is_good)
    return None if len(bad) == 0 else (int(bad[0]), wanted)
