"""`dreamer bench`: measures this machine."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from dreamer_core.config import Config
from dreamer_core.errors import BadInput, naming
from services.cli.options import with_preset
from services.cli.parsing import Root
from services.runtime.config import ServiceConfig

_PRESET = "atari"
_PARTS = ("learner", "policy", "replay", "env", "run")


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Measures a part of a preset's run on this machine, or the whole."""

    config: Annotated[Config, Root] = field(default_factory=Config)
    services: Annotated[ServiceConfig, Root] = field(default_factory=ServiceConfig)
    seconds: float = 15.0
    """Time to measure, warm-up left out."""
    rows: tuple[int, ...] = (20_000, 200_000)
    """Replay sizes that `bench replay` measures, one after the other; 4.2 kB of disk a row."""
    json: Path | None = None
    """Writes the result with hardware, versions, commit and settings here."""

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise BadInput(f"--seconds {self.seconds:g}: wanted more than 0")
        least = self.config.replay.batch_length
        if not self.rows or min(self.rows) < least:
            raise BadInput(f"--rows {self.rows}: wanted sizes of {least} rows or more")


def run(arguments: list[str]) -> int:
    """Measures, and returns the exit code."""
    part, *rest = arguments or [""]
    if part in ("-h", "--help"):
        part, rest = "|".join(_PARTS), ["--help"]
    elif part not in _PARTS:
        raise BadInput(
            f"There is nothing named {part!r} to measure; known are {', '.join(_PARTS)}. "
            "See `dreamer bench --help`"
        )
    if not rest or rest[0].startswith("-"):
        rest = [_PRESET, *rest]
    command = with_preset(BenchCommand, rest, f"dreamer bench {part} PRESET")
    if command.json is not None:
        _require_writable(command.json)
    from rich.console import Console  # noqa: PLC0415 (wrong words need none)

    from services import bench  # noqa: PLC0415 (takes seconds)

    measurement = bench.measure(
        part, command.config, command.services, seconds=command.seconds, rows=command.rows
    )
    Console(markup=False).print(bench.render(measurement))
    if command.json is not None:
        with _result(command.json):
            command.json.write_text(json.dumps(measurement.to_json(), indent=1) + "\n")
    return 0


def _require_writable(path: Path) -> None:
    """Sees, before anything is measured, that a result can be written; leaves all as it was.

    Raises:
        BadInput: it cannot. Failed: the disk is full.
    """
    with _result(path):
        is_new = not (path.exists() or path.is_symlink())
        path.open("ab").close()
        if is_new:
            path.unlink()


def _result(path: Path) -> AbstractContextManager[None]:
    return naming(
        f"write the result to {path}", "Name a file with --json, in a directory that is there"
    )
