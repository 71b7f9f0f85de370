"""`dreamer bench`: measures this machine."""

from __future__ import annotations

from rich.console import Console

from dreamer_core.errors import BadInput
from services import bench
from services.cli.options import with_preset

_PRESET = "atari"


def run(arguments: list[str]) -> int:
    """Measures, and returns the exit code."""
    part, *rest = arguments or [""]
    if part in ("-h", "--help"):
        part, rest = "|".join(bench.PARTS), ["--help"]
    elif part not in bench.PARTS:
        raise BadInput(
            f"There is nothing named {part!r} to measure; known are {', '.join(bench.PARTS)}. "
            "See `dreamer bench --help`"
        )
    if not rest or rest[0].startswith("-"):
        rest = [_PRESET, *rest]
    command = with_preset(bench.BenchCommand, rest, f"dreamer bench {part} PRESET")
    if command.json is not None:
        bench.require_writable(command.json)
    measurement = bench.PARTS[part](command)
    Console().print(bench.render(measurement))
    if command.json is not None:
        bench.write(measurement, command.json)
    return 0
