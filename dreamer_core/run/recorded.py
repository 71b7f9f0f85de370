"""A fixed replay and what is known of the environment that it was recorded from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dreamer_core.config import Config
from dreamer_core.config_offline import Actions, OfflineConfig
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.errors import BadInput
from dreamer_core.replay.fixed import FixedReplay
from dreamer_core.replay.format import RowLayout
from dreamer_core.run.front import tried
from dreamer_core.storage import checkpoint
from dreamer_core.storage.identity import saved_spec
from dreamer_core.storage.run_directory import RunPaths, read_config
from dreamer_core.storage.store import open_store
from dreamer_core.types import EnvSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a run is trained on."""

    replay: FixedReplay
    """The rows."""
    spec: EnvSpec
    """Of the environment they came from."""
    has_env: bool
    """It can be made here, to evaluate in."""
    config: OfflineConfig
    """What the run remembers of the rows."""


def recorded(
    config: Config,
    replays: Sequence[Path],
    *,
    rows: Sequence[int] | None = None,
    actions: Actions | None = None,
) -> Recorded:
    """Opens replays and finds out what their environment is.

    Sizes are those of `config.env`, if that can be made and evaluation is on; else of the newest
    checkpoint of a run that is named; else those of the rows, of which `actions` says the kind.

    Args:
        config: of the run.
        replays: run directories, or directories of segments.
        rows: of each, as the run began; None: all that is there.
        actions: of replays without a run.

    Raises:
        BadInput: they hold no rows, or of other sizes than the environment, or are named twice; or
            the kind of actions is not known.
    """
    directories = [_directory(path) for path in replays]
    _require_different(directories)
    if rows is not None and len(rows) != len(directories):
        raise BadInput(
            f"This run was begun with {len(rows)} replays, but {len(directories)} are named; name "
            "the same in the same order, or begin a new run with --run-dir"
        )
    replay = FixedReplay(directories, config.replay, rows)
    logger.info(
        "Training from %s rows of %s episodes, which stay as they are",
        f"{replay.num_rows:,}",
        f"{replay.num_episodes:,}",
    )
    spec = _of_environment(config)
    has_env = spec is not None
    if spec is None:
        spec = _of_runs(config, replays) or _of_rows(config, replay.layout, actions)
    _require_fit(config, spec, replay.layout, directories)
    _say_other_task(config, replays, has_env=has_env)
    return Recorded(
        replay=replay,
        spec=spec,
        has_env=has_env,
        config=OfflineConfig(
            replays=tuple(map(str, directories)), rows=replay.rows, data=replay.fingerprint
        ),
    )


def _directory(path: Path) -> Path:
    """The segments of a run directory, or the directory itself."""
    paths = RunPaths(path.absolute())
    return paths.replay if paths.config.is_file() or paths.replay.is_dir() else paths.root


def _require_different(directories: Sequence[Path]) -> None:
    if not directories:
        raise BadInput("Wanted --replay DIR...: run directories, or their replay directories")
    places = [directory.resolve() for directory in directories]
    twice = [str(place) for place in dict.fromkeys(places) if places.count(place) > 1]
    if twice:
        raise BadInput(f"--replay names {', '.join(twice)} more than once; name each replay once")


def _of_environment(config: Config) -> EnvSpec | None:
    """Sizes of the environment that evaluations are played in; None where there is none."""
    if config.evaluation.interval_frames is None:
        return None
    try:
        return tried(config.env)
    except (BadInput, EnvironmentCrashed) as error:
        logger.warning(
            "Nothing is evaluated, since the environment %s cannot be made: %s",
            config.env.task,
            error,
        )
        return None


def _of_runs(config: Config, replays: Sequence[Path]) -> EnvSpec | None:
    """Sizes as a checkpoint of a run that is named says them; None if none does."""
    for path in replays:
        paths = RunPaths(path.absolute())
        if paths.config.is_file():
            found = checkpoint.newest(open_store(read_config(path).checkpoint, paths.checkpoints))
            if found is not None:
                return _counted(config, saved_spec(found.facts, str(path)))
    return None


def _of_rows(config: Config, layout: RowLayout, actions: Actions | None) -> EnvSpec:
    if actions is None:
        raise BadInput(
            "Whether the actions are discrete is not known: no environment is made to evaluate in, "
            "and no run with a checkpoint is named. Say so with --actions discrete or continuous"
        )
    height, width, channels = layout.image_shape
    spec = EnvSpec(
        image_shape=(height, width, channels),
        action_size=layout.action_size,
        is_discrete=actions == "discrete",
        action_names=None,
        vector_size=layout.vector_size,
    )
    return _counted(config, spec)


def _counted(config: Config, spec: EnvSpec) -> EnvSpec:
    """The same sizes, with env frames counted by the config's action repeat."""
    return replace(spec, frames_per_policy_step=config.env.action_repeat)


def _require_fit(
    config: Config, spec: EnvSpec, layout: RowLayout, directories: Sequence[Path]
) -> None:
    wanted = RowLayout.of(spec)
    if wanted != layout:
        raise BadInput(
            f"The environment {config.env.task} has {wanted}, but {directories[0]} holds rows of "
            f"{layout}. Name the environment that they were recorded from with --env.suite and "
            "--env.task, or evaluate nowhere: --evaluation.interval-frames None"
        )


def _say_other_task(config: Config, replays: Sequence[Path], *, has_env: bool) -> None:
    """Warns where a run that is named was played in another environment than is evaluated in."""
    for path in replays if has_env else ():
        if RunPaths(path.absolute()).config.is_file():
            task = read_config(path).env.task
            if task != config.env.task:
                logger.warning(
                    "%s was recorded from %s, and %s is evaluated in", path, task, config.env.task
                )
