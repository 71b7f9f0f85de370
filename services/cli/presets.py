"""Presets on the command line: `PRESET [options]` of other commands, and `dreamer presets`."""

from __future__ import annotations

import sys
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamer_core import presets
from dreamer_core.errors import BadInput

_TABLE_WIDTH = 130  # names stay whole, for copying to the command line


def with_preset(command: Any, arguments: list[str], usage: str) -> Any:
    """Parses `PRESET [options]`, with the preset's values as the options' defaults."""
    wants_help = bool({"-h", "--help"} & set(arguments))
    has_preset = bool(arguments) and not arguments[0].startswith("-")
    if not has_preset and not wants_help:
        raise BadInput(
            f"Wanted {usage}, but no preset was named first; known are "
            f"{', '.join(presets.PRESETS)}. See `dreamer presets`"
        )
    name, rest = (arguments[0], arguments[1:]) if has_preset else ("atari", arguments)
    default = command(config=presets.preset(name))
    parsed = tyro.cli(
        command,
        args=rest,
        default=default,
        prog=f"{usage.rsplit(' ', 1)[0]} {name if has_preset else 'PRESET'}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    if parsed.config.preset != default.config.preset:
        raise BadInput(
            f"--preset {parsed.config.preset} contradicts the preset {name} named first; drop it"
        )
    return parsed


def run(arguments: list[str]) -> int:
    """`dreamer presets [NAME]`."""
    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write("usage: dreamer presets [NAME]\nThe presets, or each value of one.\n")
        return 0
    if len(arguments) > 1:
        raise BadInput(f"Wanted one preset, but got {arguments}; name one at a time")
    console = Console()
    if not arguments:
        table = Table("preset", "what it is", "changes from atari", box=None)
        for name, preset in presets.PRESETS.items():
            table.add_row(name, preset.summary, str(len(presets.changes(name))))
        console.print(table)
        return 0
    name = arguments[0]
    config, changed, sources = presets.preset(name), presets.changes(name), presets.sources()
    console.print(f"{name}: {presets.PRESETS[name].summary}")
    table = Table("setting", "value", "atari", "source", box=None)
    console.width = max(console.width, _TABLE_WIDTH)
    atari = dict(presets.leaves(presets.preset("atari")))
    for path, value in presets.leaves(config):
        if path == "preset":
            continue
        change = changed.get(path)
        source = change.source if change else sources[path]
        before = escape(str(atari[path])) if change else ""
        style = "bold" if change else None
        table.add_row(path, escape(str(value)), before, escape(source), style=style)
    console.print(table)
    return 0
