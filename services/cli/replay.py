"""`dreamer replay`: what a run has stored, whether it is whole, episodes for and of other tools.

All but `import` (replay_import.py) read beside a run that trains: take no lock, change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from dreamer_core.errors import BadInput
from dreamer_core.replay.reader import Damage, ExportedEpisode, ReplayFiles
from dreamer_core.storage.run_directory import RunPaths, read_config
from services.cli.parsing import parse

_DAMAGED_EXIT = 1


@dataclass(frozen=True, kw_only=True)
class InspectCommand:
    """Shows what a run's replay holds; of older segments only the headers are read."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Reads every stored byte and names what is damaged; exits with 0 if nothing is, else 1."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""


@dataclass(frozen=True, kw_only=True)
class ExportEpisodesCommand:
    """Writes episodes as .npz files, one each; exits with 1 if damaged rows were left out."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    to: Path
    """Where to; a new or empty directory."""
    episodes: int | None = None
    """So many of the newest episodes; without it all."""
    compress: bool = False
    """Smaller files, slower."""

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise BadInput(f"--episodes {self.episodes}: wanted 1 or more, or none for all")


@dataclass(frozen=True, kw_only=True)
class ImportHelp:
    """Makes episodes of other programs a run's replay; see `dreamer replay import --help`."""


_Command = (
    Annotated[InspectCommand, tyro.conf.subcommand("inspect", prefix_name=False)]
    | Annotated[VerifyCommand, tyro.conf.subcommand("verify", prefix_name=False)]
    | Annotated[ExportEpisodesCommand, tyro.conf.subcommand("export", prefix_name=False)]
    | Annotated[ImportHelp, tyro.conf.subcommand("import", prefix_name=False)]
)


def parsed(arguments: list[str]) -> InspectCommand | VerifyCommand | ExportEpisodesCommand | None:
    """Returns what is asked for; looks at no directory, which may be another machine's.

    None for `import`, whose options have the values of the run in its directory.
    """
    return None if arguments[:1] == ["import"] else parse(_Command, arguments, "dreamer replay")


def run(arguments: list[str]) -> int:
    """Runs the command and returns its exit code.

    Raises:
        RunDirectoryError: the directory holds no run.
        NoReplay: the run has stored no rows.
        BadInput: a file cannot be read or written. Failed: the disk is full.
    """
    command = parsed(arguments)
    if command is None:
        from services.cli import replay_import  # noqa: PLC0415 (it loads the settings, and torch)

        return replay_import.run(arguments[1:])
    read_config(command.run_dir)
    files, console = ReplayFiles(RunPaths(command.run_dir).replay), Console(markup=False)
    if isinstance(command, InspectCommand):
        return _inspect(files, console)
    if isinstance(command, VerifyCommand):
        return _verify(files, console)
    return _export(files, command, console)


def _inspect(files: ReplayFiles, console: Console) -> int:
    console.print(_summary(files))
    table = Table(box=None)
    for name in ("segment", "rows", "records", "episodes", "bytes", "lost before it"):
        table.add_column(name, justify="left" if name == "segment" else "right")
    table.add_column("state")
    for segment in files.segments():
        counts = (segment.rows, segment.records, segment.episodes, segment.bytes)
        table.add_row(
            segment.path.name,
            *(f"{count:,}" for count in counts),
            f"{segment.lost_rows:,}" if segment.lost_rows else "",
            segment.state,
        )
    console.print(table)
    _tell(files.damage(), files, console)
    return 0


def _verify(files: ReplayFiles, console: Console) -> int:
    damage = files.damage()
    num_rows = num_bytes = 0
    with console.status("reading every payload"):
        for found in files.verify():
            if isinstance(found, Damage):
                damage.append(found)
            else:
                num_rows, num_bytes = num_rows + found.rows, num_bytes + found.end - found.start
    _tell(damage, files, console)
    console.print(f"{num_rows:,} rows in {num_bytes:,} bytes are whole.")
    return _DAMAGED_EXIT if damage else 0


def _export(files: ReplayFiles, command: ExportEpisodesCommand, console: Console) -> int:
    damage = files.damage()
    written: list[ExportedEpisode] = []
    with console.status(f"writing to {command.to}"):
        exported = files.export(command.to, newest=command.episodes, is_compressed=command.compress)
        for found in exported:
            if isinstance(found, Damage):
                damage.append(found)
            else:
                written.append(found)
    _tell(damage, files, console)
    num_rows = sum(episode.rows for episode in written)
    num_incomplete = sum(not episode.is_complete for episode in written)
    console.print(
        f"Episodes written to {command.to}: {len(written):,}, with {num_rows:,} rows. Not complete "
        f"(open, cut short, damaged, or without their first rows): {num_incomplete:,}.",
        soft_wrap=True,
    )
    return _DAMAGED_EXIT if damage else 0


def _summary(files: ReplayFiles) -> Table:
    """Totals of the whole replay."""
    segments, records, totals = files.segments(), files.records, files.totals
    episodes = {record.episode_key for record in records}
    incarnations = sorted({incarnation for incarnation, _ in episodes})
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("replay", str(files.directory))
    table.add_row("policy steps ever", f"{totals.policy_steps:,}")
    table.add_row("episodes ever", f"{totals.episodes:,}, the open one included")
    table.add_row("rows held", f"{sum(segment.rows for segment in segments):,}")
    table.add_row("episodes held", f"{len(episodes):,}")
    table.add_row("bytes", f"{sum(segment.bytes for segment in segments):,}")
    table.add_row("incarnations", _ranges(incarnations))
    if files.layout is not None:
        shape = " x ".join(map(str, files.layout.image_shape))
        vector = f", vector {files.layout.vector_size}" if files.layout.vector_size else ""
        table.add_row("row", f"image {shape}, action {files.layout.action_size}{vector}")
    table.add_row("repairs ever", f"{totals.repaired_records:,}")
    if files.set_aside:
        names = ", ".join(path.name for path in files.set_aside)
        table.add_row("kept by repairs", names)
    return table


def _ranges(numbers: list[int]) -> str:
    """The first and the last of numbers, and how many there are."""
    if not numbers:
        return "none"
    return (
        f"{numbers[0]}" if len(numbers) == 1 else f"{len(numbers)}, {numbers[0]} to {numbers[-1]}"
    )


def _tell(damage: Iterable[Damage], files: ReplayFiles, console: Console) -> None:
    """Names each damaged stretch."""
    found = list(damage)
    for each in found:
        console.print(
            f"{each.path}: bytes {each.start:,} to {each.end:,}: {each.reason}",
            soft_wrap=True,
            highlight=False,
        )
    if files.is_tail_torn:
        console.print(
            "The newest segment ends with a record that is not whole: torn by a kill, and cut by "
            "the next start. If the run is training, a slow write may be under way: look again.",
            soft_wrap=True,
        )
    if found:
        console.print(
            f"Damaged stretches: {len(found):,}. They are left out by the next start, or when they "
            "are first sampled; every other row is kept.",
            soft_wrap=True,
        )
    else:
        console.print("No damage found.")
