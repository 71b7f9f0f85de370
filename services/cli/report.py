"""`dreamer report`: runs as one page, to be looked at and handed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from dreamer_core.errors import BadInput, DreamerError, naming
from dreamer_core.files import write_whole
from dreamer_core.page.contents import MOST_PICTURED, read_contents
from dreamer_core.page.looks import Look, Played
from dreamer_core.page.page import page
from dreamer_core.page.records import RunRecord
from dreamer_core.report.analysis import WorldModelAnalysis
from dreamer_core.words import plural
from services.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Writes one HTML page about a run or many: scores, curves, pictures and settings."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, directories of `dreamer sweep`, or `demo`."""
    out: Path = Path("report.html")
    """The page: one file that opens without a network, and replaces what has its name."""
    pictures: int = MOST_PICTURED
    """Runs that are shown at play and dreaming, one of each task and preset: each takes the time of
    some 3,400 policy steps. 0 for none."""
    episode: bool = True
    """Play an episode with each of these."""
    dream: bool = True
    """Measure what the world model of each of these predicts of episodes that it plays anew."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise BadInput("Wanted RUN: directories of runs or of sweeps")
        if self.pictures < 0:
            raise BadInput(f"--pictures {self.pictures}: wanted 0 or more")


def run(arguments: list[str]) -> int:
    """Writes the page, and returns the exit code."""
    command = parse(ReportCommand, arguments, "dreamer report")
    out = command.out.absolute()  # an environment may change directories
    console = Console(markup=False)

    def look(record: RunRecord) -> Look:
        return _look(record, command, console)

    contents = read_contents(command.paths, look, most_pictured=command.pictures)
    content = page(contents).encode(errors="replace")  # a name of a file need not be text
    with naming(
        f"write the page to {command.out}", "Name a file with --out, in a directory that is there"
    ):
        write_whole(out, content)
    runs = plural(len(contents.records), "run")
    console.print(f"{command.out}: {runs}, {len(content) / 1e3:,.0f} kB", soft_wrap=True)
    return 0


def _look(record: RunRecord, command: ReportCommand, console: Console) -> Look:
    """Plays and measures what is wanted; what cannot be done is said, here and on the page."""
    analysis: WorldModelAnalysis | None = None
    played: Played | None = None
    missing: list[str] = []
    try:
        if command.dream:
            from dreamer_core.run.analysis import analyse_run  # noqa: PLC0415 (loads torch)

            console.print(f"{record.run_dir}: what its world model predicts", soft_wrap=True)
            analysis = analyse_run(record.run_dir)
    except DreamerError as error:
        missing.append(f"what its world model predicts: {error}")
    try:
        if command.episode:
            from dreamer_core.page.play import play  # noqa: PLC0415 (loads torch)

            console.print(f"{record.run_dir}: an episode", soft_wrap=True)
            played = play(record.run_dir)
    except DreamerError as error:
        missing.append(f"an episode: {error}")
    for each in missing:
        console.print(f"{record.run_dir} is shown without {each}", soft_wrap=True)
    return Look(analysis=analysis, played=played, missing=tuple(missing))
