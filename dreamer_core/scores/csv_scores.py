"""Scores in a CSV file, of this program or any other: a row for each game and seed."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from dreamer_core.errors import BadInput, naming
from dreamer_core.scores.scored import Collected, LeftOut, ScoredRun
from dreamer_core.scores.table import NOT_IN_TABLE, game_named

_HEADER = "a header that begins with `game,score`, and may go on with `,seed,frames`"


def read_csv(path: Path, *, column: str = "score") -> Collected:
    """Returns the score of each row; a protocol is not known.

    Args:
        path: of the file.
        column: of the scores, by the header.

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
    collected = Collected()
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
        raise BadInput(f"{path}:{reader.line_num} is no line of a CSV file: {error}") from error
    if not collected.runs and not collected.left_out:
        raise BadInput(f"{path} holds no score, only {_HEADER}; add a line for each game and seed")
    return collected


def _take(row: dict[Any, Any], where: str, column: str, collected: Collected) -> None:
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
    return value
