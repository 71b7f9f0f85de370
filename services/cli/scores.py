"""`dreamer scores`: runs, sweeps and CSV files beside the scores of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from dreamer_core.errors import BadInput, naming
from dreamer_core.files import write_json
from dreamer_core.report.evaluated import SCORED_EPISODES, SCORED_TRAINING_EPISODES
from dreamer_core.scores.runs import Wanted, collect
from dreamer_core.scores.scored import LeftOut
from dreamer_core.scores.summary import Summary
from services.cli.parsing import parse
from services.terminal.score_tables import render_scores

_SHOWN_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class ScoresCommand:
    """Reports the scores of Atari runs as the paper does: each game, and one number over all."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, directories of `dreamer sweep`, or CSV files: a line `game,score` and, if
    you like, `,seed,frames`; then a line for each game and seed."""
    at_frames: int | None = None
    """Environment frames at which all are compared; by default each where it was scored last."""
    returns: Literal["evaluation", "training"] = "evaluation"
    """Score the last 10 evaluation episodes, as the paper does, or the last 100 of training."""
    mode: Literal["greedy", "sample"] = "greedy"
    """Of the evaluation episodes: the actor's mode, as in the paper, or a sample of it."""
    column: str = "score"
    """Of the scores in CSV files."""
    json: Path | None = None
    """Writes everything here: runs, games, aggregates, intervals, protocol and settings."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise BadInput("Wanted PATH: run directories, sweep directories or CSV files of scores")
        if self.at_frames is not None and self.at_frames < 1:
            raise BadInput(f"--at-frames {self.at_frames}: wanted 1 or more")


def run(arguments: list[str]) -> int:
    """Prints the report, and returns the exit code."""
    command = parse(ScoresCommand, arguments, "dreamer scores")
    wanted = Wanted(
        returns=command.returns,
        mode=command.mode,
        at_frames=command.at_frames,
        column=command.column,
    )
    collected = collect(command.paths, wanted)
    if not collected.runs:
        raise BadInput(_nothing_scored(collected.left_out))
    summary = Summary(collected)
    console = Console(markup=False)
    if command.json is not None:
        to_do = "Name a file with --json, in a directory that is there"
        with naming(f"write the scores to {command.json}", to_do):
            write_json(command.json, summary.to_json())
    report = render_scores(summary, of=_scored_episodes(command), width=console.width)
    console.print(report, highlight=False)
    return 0


def _scored_episodes(command: ScoresCommand) -> str:
    at = "" if command.at_frames is None else f" up to {command.at_frames:,} frames"
    if command.returns == "training":
        return f"training return, of the last {SCORED_TRAINING_EPISODES} episodes{at}"
    return f"last {SCORED_EPISODES} {command.mode} evaluation episodes{at}"


def _nothing_scored(left_out: list[LeftOut]) -> str:
    shown = "; ".join(f"{each.source}: {each.reason}" for each in left_out[:_SHOWN_REASONS])
    more = len(left_out) - _SHOWN_REASONS
    return f"There is nothing to score. {shown}" + (f"; and {more} more" if more > 0 else "")
