"""Scores in a CSV file, of this program or any other: a row for each game and seed.

Several rows of one game and seed that say their frames are a curve: one of them is the score.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from dreamer_core.errors import BadInput, naming
from dreamer_core.report.evaluated import interval_of
from dreamer_core.scores.at_frame import NoScore, require_there
from dreamer_core.scores.scored import LARGEST_SCORE, CollectedRuns, LeftOut, ScoredRun
from dreamer_core.scores.table import NOT_IN_TABLE, game_named

_HEADER = "a header that begins with `game,score`, and may go on with `,seed,frames`"
_INTERVAL_FRAMES = 100_000  # of the paper's curves; taken where one row does not show its own


def read_csv(path: Path, *, column: str = "score", at_frames: int | None = None) -> CollectedRuns:
    """Returns the score of each row or curve; a protocol is not known.

    Args:
        path: of the file.
        column: of the scores, by the header.
        at_frames: env frame at which they are compared, where they say their frames; None: each
            curve at its newest row.

    Raises:
        BadInput: the file cannot be read, or is no such table: with the line and the cell.
    """
    with naming(f"read the scores in {path}", "Name a CSV file that can be read"):
        content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text ({error.reason}); name a CSV file") from error
    reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
    collected = CollectedRuns()
    try:
        header = list(reader.fieldnames or ())
        if not {"game", column} <= set(header):
            raise BadInput(
                f"{path}:1: wanted {_HEADER}; the columns are {', '.join(header) or 'none'}. "
                f"Add what is missing, or name the column of the scores with --column"
            )
        for row in reader:
            _take(row, f"{path}:{reader.line_num}", column, collected)
    except csv.Error as error:
        where = f"{path}:{max(1, reader.line_num)}"  # the reader counts a header once it is whole
        raise BadInput(f"{where} is no line of a CSV file: {error}") from error
    if not collected.runs and not collected.left_out:
        raise BadInput(f"{path} holds no score, only {_HEADER}; add a line for each game and seed")
    return _at_frame(collected, at_frames)


def _at_frame(collected: CollectedRuns, at_frames: int | None) -> CollectedRuns:
    """Returns of each curve its newest row up to a frame; rows without frames are all kept."""
    curves: dict[object, list[ScoredRun]] = {}
    for run in collected.runs:
        is_curve = run.seed is not None and run.to_frame is not None
        curves.setdefault((run.game, run.seed) if is_curve else run.source, []).append(run)
    taken = CollectedRuns(left_out=list(collected.left_out))
    for curve in curves.values():
        try:
            taken.runs.extend(_newest(curve, at_frames))
        except NoScore as reason:
            taken.left_out.append(LeftOut(curve[-1].source, str(reason)))
    return taken


def _newest(curve: list[ScoredRun], at_frames: int | None) -> list[ScoredRun]:
    """Returns the row to score; several where they are of one frame.

    Raises:
        NoScore: the curve has none within an interval of the frame.
    """
    frames = sorted({run.to_frame for run in curve if run.to_frame is not None})
    if not frames:
        return curve
    until = [frame for frame in frames if at_frames is None or frame <= at_frames]
    newest = until[-1] if until else None
    interval = interval_of(frames) if len(frames) > 1 else _INTERVAL_FRAMES
    require_there(newest, at_frames, reached_frame=frames[-1], interval_frames=interval)
    return [run for run in curve if run.to_frame == newest]


def _take(row: dict[Any, Any], where: str, column: str, collected: CollectedRuns) -> None:
    if None in row or None in row.values():
        raise BadInput(f"{where}: wanted as many cells as the header has; mend the line")
    try:
        game = game_named(row["game"])
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    if game in NOT_IN_TABLE:
        collected.left_out.append(LeftOut(where, f"{game} is none of the paper's games"))
        return
    frames = _number(row.get("frames", ""), f"{where}: frames", default=None)
    if frames is not None and frames < 1:
        raise BadInput(f"{where}: frames is {row['frames']!r}; wanted 1 or more, or an empty cell")
    seed = _number(row.get("seed", ""), f"{where}: seed", default=None)
    if seed is not None and seed != int(seed):
        raise BadInput(f"{where}: seed is {row['seed']!r}; wanted a whole number")
    score = _number(row[column], f"{where}: {column}", default=math.nan)
    if score is None or math.isnan(score):
        raise BadInput(f"{where}: the {column} of {game} is empty; write a number")
    collected.runs.append(
        ScoredRun(
            game=game,
            seed=None if seed is None else int(seed),
            score=score,
            source=where,
            to_frame=frames,
        )
    )


def _number(cell: str, where: str, *, default: float | None) -> float | None:
    if not cell.strip():
        return default
    try:
        value = float(cell.replace("_", ""))
    except ValueError as error:
        raise BadInput(f"{where} is {cell!r}; wanted a number, without commas in it") from error
    if not math.isfinite(value):
        raise BadInput(f"{where} is {cell!r}; wanted a finite number")
    if abs(value) > LARGEST_SCORE:
        raise BadInput(f"{where} is {cell!r}; wanted a number of at most {LARGEST_SCORE:g}")
    return value
