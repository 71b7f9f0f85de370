"""`dreamer presets`: the presets, or each value of one with its source."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamer_core import presets
from dreamer_core.errors import BadInput

_TABLE_WIDTH = 130  # names stay whole, for copying to the command line


def run(arguments: list[str]) -> int:
    """`dreamer presets [NAME]`."""
    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write("usage: dreamer presets [NAME]\nThe presets, or each value of one.\n")
        return 0
    if len(arguments) > 1:
        raise BadInput(f"Wanted one preset, but got {arguments}; name one at a time")
    console = Console(markup=False)
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
