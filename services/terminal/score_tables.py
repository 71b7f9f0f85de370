"""Scores as a terminal shows them: games, aggregates, and what has to be known of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dreamer_core.scores.aggregate import AGGREGATES
from dreamer_core.scores.summary import GameScore, Summary
from dreamer_core.scores.table import AGENTS, TITLES, Agent, table_k1
from dreamer_core.words import UNKNOWN, plural, score
from services.terminal.format import format_number

_WIDE = 110  # columns from which on scores are shown in full
_SHOWN_SOURCES = 20
_MANY_SEEDS = 5  # from which on the bootstrap over seeds covers about what it says
_AGENTS: tuple[Agent, ...] = tuple(reversed(AGENTS))
_SHORT: dict[Agent, str] = {"rainbow": "Rainb.", "iqn": "IQN", "dreamerv2": "paper"}


def render_scores(summary: Summary, *, of: str, width: int) -> RenderableType:
    """Returns the report.

    Args:
        summary: what is shown.
        of: what a score is the mean of, such as "last 10 greedy evaluation episodes".
        width: columns of the terminal.
    """
    is_wide = width >= _WIDE
    parts: list[RenderableType] = [
        Text(f"{_what(summary, of)} Beside them: DreamerV2, Table K.1."),
        "",
        _games(summary, is_wide=is_wide),
        "",
        _aggregates(summary, is_wide=is_wide),
    ]
    notes = list(_notes(summary))
    return Group(*parts, *(["", *map(Text, notes)] if notes else []))


def _what(summary: Summary, of: str) -> str:
    """Says in a sentence how many runs are scored, by what and where."""
    runs = summary.collected.runs
    episodes = [run.episodes for run in runs if run.episodes is not None]
    counts = sorted({min(episodes), max(episodes)}) if episodes else []
    by = f"by the {of} (there are {' to '.join(map(str, counts))})" if counts else "as files say"
    frames = [run.to_frame for run in runs if run.to_frame is not None]
    at = f", at {_frames((min(frames), max(frames)))} frames" if frames else ""
    return f"{plural(len(runs), 'run')} of {plural(len(summary.games), 'game')}{at}, {by}."


def _games(summary: Summary, *, is_wide: bool) -> Table:
    """A row for each game; narrow ones without frames, and with rounded numbers."""
    table = _table("game")
    titles = TITLES if is_wide else _SHORT
    for heading in (
        *("score", "±", "seeds" if is_wide else "n", *(["frames"] if is_wide else [])),
        *("random", "gamer", "record", *(titles[agent] for agent in _AGENTS)),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    number = score if is_wide else format_number
    for game in summary.games:
        table.add_row(*_cells(game, number, is_wide=is_wide))
    return table


def _cells(game: GameScore, number: Callable[[float], str], *, is_wide: bool) -> Iterator[str]:
    row = game.row
    yield row.game
    yield number(game.mean)
    yield UNKNOWN if game.deviation is None else number(game.deviation)
    yield str(len(game.runs))
    if is_wide:
        yield _frames(game.frames)
    yield from (number(each) for each in (row.random, row.gamer, row.record))
    yield from (number(row.of(agent)) for agent in _AGENTS)


def _frames(frames: tuple[float, float] | None) -> str:
    if frames is None:
        return UNKNOWN
    low, high = (format_number(frame) for frame in frames)
    return low if low == high else f"{low} to {high}"


def _aggregates(summary: Summary, *, is_wide: bool) -> Table:
    """A row for each aggregate, with its interval, beside those of the paper's agents."""
    table = _table("aggregate")
    titles = TITLES if is_wide else _SHORT
    for heading in ("over games", "here", "95% interval", *(titles[agent] for agent in _AGENTS)):
        table.add_column(heading, justify="right", no_wrap=True)
    over = f"{len(summary.games)} of {len(table_k1())}"
    for name in AGGREGATES:
        interval = None if summary.intervals is None else summary.intervals[name]
        table.add_row(
            name.replace("_", " "),
            over,
            _value(summary.aggregates, name),
            UNKNOWN if interval is None else f"{interval.low:.3f} to {interval.high:.3f}",
            *(_value(summary.references[agent], name) for agent in _AGENTS),
        )
    return table


def _value(aggregates: Any, name: str) -> str:
    return f"{getattr(aggregates, name):.3f}"


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _notes(summary: Summary) -> Iterator[str]:
    """Yields what has to be known of the tables."""
    num_games = len(summary.games)
    if summary.intervals is None:
        yield "No intervals: every game has one seed; what another would give is not known."
    elif summary.num_single:
        yield (
            f"The intervals are too narrow: {summary.num_single} of {num_games} games have one "
            "seed and are taken for certain."
        )
    elif summary.fewest_seeds < _MANY_SEEDS:
        yield f"Intervals of {summary.fewest_seeds} seeds are rather too narrow; train more seeds."
    if summary.atari5 is not None:
        yield (
            f"Atari-5 estimates a gamer median of {summary.atari5:.3f} over 57 games (Aitchison et "
            "al. 2023). It is biased early in training, and 5% to 26% too low for the three agents "
            "of Table K.1."
        )
    if summary.missing:
        yield f"Missing games ({len(summary.missing)}): {', '.join(summary.missing)}."
    yield from _comparable(summary)
    left_out = summary.collected.left_out
    if left_out:
        yield f"Left out ({len(left_out)}):"
        yield from (f"  {each.source}: {each.reason}." for each in left_out[:_SHOWN_SOURCES])
        if len(left_out) > _SHOWN_SOURCES:
            yield f"  and {len(left_out) - _SHOWN_SOURCES} more, in the file of --json."


def _comparable(summary: Summary) -> Iterator[str]:
    for warning in summary.warnings:
        yield f"Warning: {warning}."
    if summary.differences:
        yield "Warning: the runs differ, so their scores may not be comparable:"
        yield from (f"  {line}" for line in summary.differences)
