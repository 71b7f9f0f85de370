"""`dreamer replay import`: episodes of other programs become the replay of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from dreamer_core import presets
from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.replay.format import RowLayout
from dreamer_core.replay.importing import Imported, import_episodes, require_no_replay
from dreamer_core.run.episode_files import find_files, read_files
from dreamer_core.storage.run_directory import RunPaths, open_run, read_config, require_free
from services.cli.options import PresetConfig, with_settings
from services.cli.parsing import Root, take_option


@dataclass(frozen=True, kw_only=True)
class ImportEpisodesCommand:
    """Makes episodes the replay of a run that has stored none; all of them, or none.

    Read are .npz files of one episode each, as `dreamer replay export` or the authors' code writes
    them, and HDF5 files of Minari datasets that observe images. Row t holds the action that led to
    image t, and its reward; this is checked.
    """

    paths: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Files, and directories that are searched for them."""
    run_dir: Path | None = None
    """Of the run, made if missing; `dreamer local PRESET --run-dir DIR` goes on there."""
    preset: str | None = None
    """Of the run, with what differs from it as options; without it, that of the run in DIR."""
    config: Annotated[PresetConfig, Root] = field(default_factory=PresetConfig)


def run(arguments: list[str]) -> int:
    """Imports, and returns the exit code.

    Raises:
        BadInput: the words, the settings or a file are none that could be used; nothing was stored.
        Failed: the disk is full; nothing was stored.
    """
    command = _parsed(arguments)
    if not command.paths or command.run_dir is None:
        raise BadInput(
            "Wanted `dreamer replay import DIR_OR_FILES... --run-dir DIR`, but "
            f"{'no files' if not command.paths else 'no --run-dir'} were named"
        )
    console = Console(markup=False)
    with console.status("reading episodes"):
        imported = _imported(command.paths, command.run_dir, command.config)
    _tell(imported, command.run_dir, console)
    return 0


def _parsed(arguments: list[str]) -> ImportEpisodesCommand:
    """Reads the words, with the settings of the preset or of the run as defaults."""
    preset, _ = take_option("--preset", arguments)
    run_dir, _ = take_option("--run-dir", arguments)
    if preset is not None or {"-h", "--help"} & set(arguments):
        settings = presets.preset(preset or "atari")
    elif run_dir is not None and RunPaths(Path(run_dir)).config.is_file():
        settings = read_config(Path(run_dir))
    else:
        raise BadInput(
            "Wanted --preset NAME and what differs from it (--env.task ...), or a --run-dir that "
            "holds a run. See `dreamer presets`"
        )
    return with_settings(ImportEpisodesCommand, arguments, "dreamer replay import", settings)


def _imported(paths: Sequence[Path], run_dir: Path, config: Config) -> Imported:
    """Reads all files once before anything is written, and again to store them."""
    require_free(run_dir)
    require_no_replay(RunPaths(run_dir).replay)
    files = find_files(paths)
    from dreamer_core.run.front import check  # noqa: PLC0415 (imports PyTorch)

    config, spec = check(config, run_dir, trained="elsewhere")
    for _ in read_files(files, spec):
        pass
    with open_run(run_dir, config) as places:
        rows = config.replay.segment_steps
        return import_episodes(places.replay, RowLayout.of(spec), rows, read_files(files, spec))


def _tell(imported: Imported, run_dir: Path, console: Console) -> None:
    console.print(
        f"Episodes stored in {run_dir / 'replay'}: {imported.episodes:,}, with {imported.rows:,} "
        f"rows, {imported.policy_steps:,} policy steps; {imported.terminal_episodes:,} end by the "
        "task's own end. Row t holds the action that led to image t and its reward: row 0 of each "
        "episode was found to hold neither.",
        soft_wrap=True,
        highlight=False,
    )
