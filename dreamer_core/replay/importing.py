"""Episodes of other programs made a replay: all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dreamer_core.errors import BadInput
from dreamer_core.files import flush_directory, temporary_of
from dreamer_core.replay.format import RowLayout, Totals, encode_chunk
from dreamer_core.replay.segments import Segment, explained, segment_bytes
from dreamer_core.types import EpisodeChunk

CHUNK_ROWS = 64
"""Rows of a record, as a collector of the large presets sends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was stored."""

    episodes: int
    rows: int
    policy_steps: int
    """Rows that are not the first of an episode."""
    terminal_episodes: int
    """Episodes that end by the task's own end."""


def import_episodes(
    directory: Path, layout: RowLayout, segment_steps: int, episodes: Iterable[EpisodeChunk]
) -> Imported:
    """Writes a replay that holds these episodes; it appears whole.

    A kill leaves `temporary_of(directory)`, which the next import or start of the run removes.

    Args:
        directory: of the replay; missing or empty.
        layout: of every row.
        segment_steps: rows of a segment file.
        episodes: each whole or a part of one, checked, in the order of their names.

    Raises:
        BadInput: there is a replay already; nothing was changed.
        StorageFailed: it cannot be written; nothing was stored.
    """
    temporary = temporary_of(directory)
    require_no_replay(directory)
    with explained("importing episodes", directory):
        shutil.rmtree(temporary, ignore_errors=True)  # what a kill has left
        try:
            temporary.mkdir()
            imported = _write(temporary, layout, segment_steps, episodes)
            temporary.rename(directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        flush_directory(directory.parent)
    return imported


def require_no_replay(directory: Path) -> None:
    """Raises BadInput if rows are stored there."""
    if directory.is_dir() and any(directory.iterdir()):
        raise BadInput(
            f"Wanted a run that has stored no rows, but {directory} holds some, and how many came "
            "in decides when a run trains. Name a new directory with --run-dir; to join several "
            "sources, name all of them in one import. Nothing was changed"
        )


def chunks_of(episode: EpisodeChunk) -> Iterator[EpisodeChunk]:
    """Cuts an episode as a collector would."""
    names = {"incarnation", "episode", "first_step"}
    columns = {f.name: getattr(episode, f.name) for f in fields(episode) if f.name not in names}
    for start in range(0, len(episode), CHUNK_ROWS):
        part: dict[str, Any] = {
            name: None if column is None else column[start : start + CHUNK_ROWS]
            for name, column in columns.items()
        }
        yield EpisodeChunk(
            incarnation=episode.incarnation,
            episode=episode.episode,
            first_step=episode.first_step + start,
            **part,
        )


def _write(
    directory: Path, layout: RowLayout, segment_steps: int, episodes: Iterable[EpisodeChunk]
) -> Imported:
    totals, segment, last_key = Totals(), None, None
    num_rows = num_terminal = 0
    for episode in episodes:
        key = episode.incarnation, episode.episode
        for chunk in chunks_of(episode):
            frame = encode_chunk(chunk, layout)
            if segment is None or segment.rows + len(chunk) > segment_steps:
                name = 0 if segment is None else int(segment.path.stem) + 1
                if segment is not None:
                    segment.close()
                room = max(segment_bytes(layout, segment_steps), len(frame))
                path = directory / f"{name:08d}.segment"
                segment = Segment.create(path, layout, totals, room)
            totals = totals.after(segment.append(frame))
            if chunk.first_step > 0 and key != last_key:
                totals = totals.after_lost_beginning()
            last_key = key
        num_rows += len(episode)
        num_terminal += int(episode.is_terminal[-1])
    if segment is not None:
        segment.close()
    return Imported(
        episodes=totals.episodes,
        rows=num_rows,
        policy_steps=totals.policy_steps,
        terminal_episodes=num_terminal,
    )
