"""Segment files whose every row says which it is, and what may happen to them.

The image of a row holds incarnation, episode and step, and so do its action and reward. Damage is
drawn by hypothesis and done to the bytes of a directory.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from dreamer_core.config import ReplayConfig
from dreamer_core.replay.format import RowLayout
from dreamer_core.replay.replay import Replay
from dreamer_core.types import EpisodeChunk

SHAPE = (2, 2, 1)
LAYOUT = RowLayout(SHAPE, 3)
CONFIG = ReplayConfig(capacity_steps=100_000, batch_size=8, batch_length=6, segment_steps=25)
LENGTHS = ((9, 14, 3), (1, 21), (16,))  # rows by incarnation and episode
ROWS = sum(sum(lengths) for lengths in LENGTHS)
CHUNK = 5


def chunk_of(incarnation: int, episode: int, first_step: int, rows: int) -> EpisodeChunk:
    """What was stored there; incarnation 1 dies within its last episode, others end theirs."""
    length = LENGTHS[incarnation][episode] if incarnation < len(LENGTHS) else 10**6
    is_cut_short = incarnation == 1 and episode == 1
    step = np.arange(first_step, first_step + rows)
    place = np.stack([np.full(rows, incarnation), np.full(rows, episode), step], axis=1)
    is_last = (step == length - 1) & (not is_cut_short)
    return EpisodeChunk(
        incarnation=incarnation,
        episode=episode,
        first_step=first_step,
        image=np.concatenate([place, place.sum(1, keepdims=True)], axis=1)
        .astype(np.uint8)
        .reshape(rows, *SHAPE),
        prev_action=place.astype(np.float32) * (step > 0)[:, None].astype(np.float32),
        reward=(place @ [10_000, 100, 1]).astype(np.float32),
        is_first=step == 0,
        is_last=is_last,
        is_terminal=is_last & (episode % 2 == 0),
    )


def open_replay(directory: Path) -> Replay:
    return Replay(directory, CONFIG, image_shape=SHAPE, action_size=3)


def fill(directory: Path) -> Replay:
    replay = open_replay(directory)
    for incarnation, lengths in enumerate(LENGTHS):
        for episode, length in enumerate(lengths):
            for step in range(0, length, CHUNK):
                assert replay.insert(
                    chunk_of(incarnation, episode, step, min(CHUNK, length - step))
                )
    return replay


# Damage


@dataclass(frozen=True)
class Damage:
    """One thing that happens to a file; offsets wrap around at its end."""

    kind: str
    file: int
    other: int
    at: int
    other_at: int
    length: int


CONTENT_KINDS = ("truncate", "flip", "zeros", "ones", "paste", "append", "empty")
FILE_KINDS = ("delete", "swap", "copy", "copy_over")
OFFSETS = st.integers(0, 12_000)
DAMAGES = st.builds(
    Damage,
    kind=st.sampled_from([*CONTENT_KINDS, *FILE_KINDS, "paste_record", "append_record"]),
    file=st.integers(0, 3),
    other=st.integers(0, 3),
    at=OFFSETS,
    other_at=OFFSETS,
    length=st.integers(1, 400) | OFFSETS,
)


def a_record(records, index: int) -> tuple[int, bytes]:
    """Where a whole record lies, and its bytes."""
    record = records[index % len(records)]
    return record.start, bytes(record.data[record.start : record.end])


def change_content(kind: str, content: bytearray, at: int, length: int, piece: bytes) -> None:
    match kind:
        case "truncate":
            del content[at:]
        case "flip":
            content[at : at + 1] = bytes(byte ^ 1 << length % 8 for byte in content[at : at + 1])
        case "zeros":
            content[at : at + length] = bytes(length)
        case "ones":
            content[at : at + length] = b"\xff" * length
        case "paste":
            content[at : at + len(piece)] = piece
        case "append":
            content.extend(piece)
        case "empty":
            content.clear()


def change_files(kind: str, files: dict[str, bytes], name: str, other: str, new: str) -> None:
    match kind:
        case "delete":
            del files[name]
        case "swap":
            files[name], files[other] = files[other], files[name]
        case "copy":
            files[new] = files[name]
        case "copy_over":
            files[other] = files[name]


def apply(damage: Damage, files: dict[str, bytes], whole: list[list]) -> None:
    """Does the damage; `whole` holds the records of the undamaged files."""
    if not files:
        return
    names = sorted(files)
    name, other = names[damage.file % len(names)], names[damage.other % len(names)]
    if damage.kind in FILE_KINDS:
        change_files(damage.kind, files, name, other, f"{10 + damage.at % 5:08d}.segment")
        return
    content, source = bytearray(files[name]), files[other]
    at, other_at = damage.at % max(1, len(content)), damage.other_at % max(1, len(source))
    piece = source[other_at : other_at + damage.length]
    kind = damage.kind.removesuffix("_record")
    if kind != damage.kind:
        at, _ = a_record(whole[damage.file % len(whole)], damage.at)
        _, piece = a_record(whole[damage.other % len(whole)], damage.other_at)
    change_content(kind, content, at, damage.length, piece)
    files[name] = bytes(content)
