"""The checkpoint that a user names, by its run, its place, itself or a file of it.

`demo` is the agent that comes with this program, wherever a run is named and no directory here has
that name.
"""

from __future__ import annotations

import re
from pathlib import Path

from dreamer_core.config import CheckpointConfig
from dreamer_core.errors import BadInput, naming
from dreamer_core.storage import checkpoint
from dreamer_core.storage.checkpoint import Checkpoint
from dreamer_core.storage.run_directory import RunPaths, read_config
from dreamer_core.storage.store import LocalStore, Store, open_store

DEMO = "demo"
"""Names the agent that comes with this program."""
DEMO_DIRECTORY = Path(__file__).parents[1] / "demo"
"""Its run directory, which holds the agent alone; MODEL_CARD.md says what it is."""
_STEP = re.compile(r"(?P<place>.*/)(?P<step>\d{12})(/[^/]*)?", re.ASCII | re.DOTALL)


def run_named(name: str | Path) -> Path:
    """Returns the run directory that a user names."""
    path = Path(name)
    return DEMO_DIRECTORY if str(path) == DEMO and not path.exists() else path


def require_named(name: str | Path) -> None:
    """Raises BadInput where `load_named` would find no run and no place of checkpoints."""
    _place(name)


def load_named(name: str | Path, step: int | None = None) -> Checkpoint:
    """Loads a checkpoint of any run.

    Args:
        name: a run directory, or `demo`; a directory or URL of checkpoints, as `checkpoint.url`
            takes it; a checkpoint in one, `.../000000012000`; or a file of a checkpoint.
        step: gradient steps of the checkpoint; None for the newest that is whole.

    Raises:
        BadInput: there is no run or checkpoint, or not the step asked for; names those there are.
        CheckpointCorrupt, StorageFailed: as in `checkpoint.load`.
    """
    store, named_step = _place(name)
    if named_step is not None and step not in (None, named_step):
        raise BadInput(
            f"{name} is the checkpoint of gradient step {named_step}, but step {step} was asked "
            "for; name one of them"
        )
    found = checkpoint.load(store, step if named_step is None else named_step)
    if found is None:
        raise BadInput(
            f"Wanted a run directory or a place of checkpoints, but {store.location} holds no "
            "checkpoint. A run writes one every checkpoint.interval_s and when it stops"
        )
    return found


def _place(name: str | Path) -> tuple[Store, int | None]:
    """Returns where the checkpoints lie, and the step if the name holds one."""
    if "://" in str(name):
        return _with_step(str(name))
    path = run_named(name).expanduser()
    with naming(f"load a checkpoint from {path}", "Mend its permissions or name another place"):
        if not path.exists():
            raise BadInput(
                f"Wanted a run directory, a place of checkpoints or a checkpoint, but there is no "
                f"{path}. Name the directory that `dreamer train` or `dreamer local` printed"
            )
        if RunPaths(path).config.is_file():
            config = read_config(path).checkpoint
            return open_store(config, RunPaths(path).checkpoints), None
        return _with_step(str((path if path.is_dir() else path.parent).resolve()))


def _with_step(place: str) -> tuple[Store, int | None]:
    match = _STEP.fullmatch(place)
    if match is None:
        return _open(place), None
    return _open(match["place"]), int(match["step"])


def _open(place: str) -> Store:
    if "://" not in place:
        return LocalStore(Path(place))
    return open_store(CheckpointConfig(url=place), Path())
