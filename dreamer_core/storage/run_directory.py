"""The directory of one run: what lies where, whose run it is, and who may write to it.

config.json          the run's config; a later start must ask for the same run
versions.json        which programs wrote here, and in which format (provenance.py)
run.lock             held while a process trains here, with that process's name
replay/              episodes
checkpoints/         agents
cluster.json         where the Ray cluster of the run is
videos/              episodes that evaluators were asked to film
supervisor.log  metrics.jsonl  tensorboard/  learning_curve.png  open_loop.png
tracker.json  wandb/     what a tracker keeps here, if one is asked for
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput, naming
from dreamer_core.fields import from_dict, known_part, to_dict
from dreamer_core.files import InUse, lock_holder, take_lock, temporary_of, write_json
from dreamer_core.presets import leaves
from dreamer_core.storage.identity import differing_settings
from dreamer_core.storage.provenance import VERSIONS_FILE, read_versions, stamp

logger = logging.getLogger(__name__)


class RunDirectoryError(BadInput):
    """The directory cannot be used for this run; nothing in it was changed."""


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Places within a run directory."""

    root: Path

    @property
    def config(self) -> Path:
        """The run's config as JSON."""
        return self.root / "config.json"

    @property
    def versions(self) -> Path:
        """Which programs wrote here."""
        return self.root / VERSIONS_FILE

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.root / "run.lock"

    @property
    def log(self) -> Path:
        """The supervisor's log lines."""
        return self.root / "supervisor.log"

    @property
    def replay(self) -> Path:
        """Segments of episodes."""
        return self.root / "replay"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of the agent."""
        return self.root / "checkpoints"

    @property
    def cluster(self) -> Path:
        """Where the Ray cluster of the run is that trains here."""
        return self.root / "cluster.json"

    @property
    def videos(self) -> Path:
        """Episodes that evaluators were asked to film."""
        return self.root / "videos"

    def picture(self, name: str) -> Path:
        """A picture that was reported, such as `open_loop`."""
        return self.root / f"{name}.png"


def read_config(root: Path) -> Config:
    """Returns the config of the run in `root`, for whoever only reads there.

    Settings of a newer program are left out, with a warning; those that an older one did not have
    are at their defaults.

    Raises:
        RunDirectoryError: there is no run, or its config cannot be read.
    """
    values, unknown = known_part(Config, _saved_values(root))
    if unknown:
        _warn_of_unknown(root, tuple(unknown))
    return _as_config(root, values)


@functools.cache  # a command may read one config several times
def _warn_of_unknown(root: Path, unknown: tuple[str, ...]) -> None:
    """Logs what is left out of a config, once."""
    written = read_versions(RunPaths(root).versions).words()
    names = ", ".join(unknown)
    logger.warning(
        "%s is read without %s, which this program does not know. %s", root, names, written
    )


def _saved_values(root: Path) -> Any:
    """Returns what config.json holds; raises as `read_config`."""
    paths = RunPaths(root)
    with _naming(f"read the run in {root}"):
        if not paths.config.is_file():
            runs = sorted(str(path.parent) for path in root.glob(f"*/{paths.config.name}"))
            raise RunDirectoryError(
                f"Wanted a run directory, but {root} holds no {paths.config.name}. "
                + (
                    f"Name one of the runs in it, such as {' or '.join(runs[:3])}"
                    if runs
                    else "Name the directory that `dreamer train` or `dreamer local` printed"
                )
            )
        content = paths.config.read_bytes()
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(root, error) from error


def _as_config(root: Path, values: Any) -> Config:
    try:
        return from_dict(Config, values)
    except BadInput as error:
        raise _unreadable(root, error) from error


def _unreadable(root: Path, error: Exception) -> RunDirectoryError:
    paths = RunPaths(root)
    return RunDirectoryError(
        f"{paths.config} cannot be read as a config: {error}. It was damaged, or written by "
        "another version; restore it or start a new run directory. "
        f"{read_versions(paths.versions).words()}"
    )


@contextmanager
def open_run(
    root: Path, config: Config, tell: Callable[[str], None] = logger.info
) -> Generator[RunPaths]:
    """Claims the directory for the config's run while the block runs; makes it if needed.

    Args:
        root: the directory.
        config: of the run.
        tell: takes sentences for the log: which program wrote here before, which settings are new.

    Raises:
        RunDirectoryError: the directory cannot be written, is in use, holds files of something
            else, a run of another config, or one of a newer program.
        Failed: its disk is full.
    """
    paths = RunPaths(root)
    with _naming(f"write a run into {root}"):
        root.mkdir(parents=True, exist_ok=True)
        if not paths.config.exists():
            _require_empty(paths)
        lock = claim(paths.lock)
    with lock:
        shutil.rmtree(temporary_of(paths.replay), ignore_errors=True)  # what an import left
        with _naming(f"write a run into {root}"):
            is_resumed = paths.config.exists()
            new_settings = _require_same(paths, config) if is_resumed else {}
            told = stamp(paths.versions, new_settings)
            write_json(paths.config, to_dict(config))
        for sentence in told:
            tell(sentence)
        yield paths


def _naming(wanted: str) -> AbstractContextManager[None]:
    to_do = "Choose another place with --run-dir, make room, or mend its permissions"
    return naming(wanted, to_do, RunDirectoryError)


def claim(lock: Path, option: str = "--run-dir") -> IO[str]:
    """Takes the lock of a directory until the file that is returned is closed.

    Args:
        lock: in the directory.
        option: of the command line, which names another directory.

    Raises:
        RunDirectoryError: another process has it; named.
        OSError: the lock cannot be written.
    """
    try:
        return take_lock(lock)
    except InUse as error:
        raise _in_use(lock.parent, str(error), option) from error


def require_free(root: Path) -> None:
    """Raises RunDirectoryError where another process trains in a directory; changes nothing."""
    found = holder(RunPaths(root))
    if found is not None:
        raise _in_use(root, found, "--run-dir")


def _in_use(root: Path, who: str, option: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{root} is in use by {who}. Wait for that run, stop it, or name another "
        f"directory with {option}"
    )


def holder(paths: RunPaths) -> str | None:
    """Who trains here now, as `process N on HOST`; None if nobody does.

    Raises:
        RunDirectoryError: the lock cannot be read.
    """
    with _naming(f"see who trains in {paths.root}"):
        return lock_holder(paths.lock)


def default_run_dir(config: Config) -> Path:
    """The run directory where none is named: runs/PRESET_TASK_SEED, or runs/offline_..."""
    task = "".join(c if c.isalnum() else "_" for c in config.env.task)
    kind = "offline_" if config.offline.is_on else ""
    return Path("runs") / f"{kind}{config.preset}_{task}_{config.seed}"


def _require_empty(paths: RunPaths) -> None:
    own = [paths.lock, temporary_of(paths.config)]  # what a kill before the first config may leave
    own += [paths.versions, temporary_of(paths.versions)]
    foreign = sorted(p.name for p in paths.root.iterdir() if p not in own)
    if foreign:
        raise RunDirectoryError(
            f"Wanted an empty directory or one that holds a run, but {paths.root} holds "
            f"{', '.join(foreign[:5])} and no {paths.config.name}. Name another with --run-dir"
        )


def _require_same(paths: RunPaths, wanted: Config) -> dict[str, Any]:
    """Refuses a run that is another, or a newer program's; returns the settings that it lacks."""
    versions, root = read_versions(paths.versions), paths.root
    if versions.is_newer:
        raise RunDirectoryError(
            f"The run in {root} is a newer program's. {versions.words()}. Go on with the program "
            "that wrote it, or start a new run directory with --run-dir; nothing was changed"
        )
    values = _saved_values(root)
    saved = _as_config(root, values)
    differing = differing_settings(saved, wanted)
    if differing:
        raise RunDirectoryError(
            f"{root} holds another run ({differing}). To resume it, ask for the same preset and "
            "settings; for a new run, name another directory with --run-dir. Nothing was changed"
        )
    return {name: value for name, value in leaves(wanted) if not _holds(values, name)}


def _holds(values: Any, name: str) -> bool:
    """Whether nested dictionaries hold something under a dotted path."""
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
