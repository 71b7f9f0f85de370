"""The config of runs, and what in it differs from their preset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dreamer_core.page.markup import Html, joined, tag
from dreamer_core.page.records import RunRecord, Variant
from dreamer_core.page.scored import wide_table
from dreamer_core.presets import PRESETS, changes, leaves, preset, sources
from dreamer_core.scores.stamp import as_words, differing_from_preset, whole_settings_of
from dreamer_core.words import few, plural

_OF_A_RUN = ("preset", "seed", "env.task")
_SHOWN_VALUES = 4


def config_section(variant: Variant) -> Html:
    """Returns what differs from the preset, and every setting with its source."""
    settings, name = _values(variant.runs), variant.runs[0].preset
    own = dict(leaves(preset(name))) if name in PRESETS else {}
    differing = set[str]().union(*(differing_from_preset(run.config) for run in variant.runs))
    differing.difference_update(_OF_A_RUN)
    parts: list[Html] = []
    if not own:
        parts.append(tag("p", f"This version knows no preset {name}, so nothing is compared."))
    elif not differing:
        parts.append(tag("p", f"As in the preset {name}, but for task and seed."))
    else:
        rows = [
            (path, few(values, _SHOWN_VALUES), _shown(own.get(path)))
            for path, values in settings.items()
            if path in differing
        ]
        headings = ("setting", "here", f"in {name}")
        parts.append(_table(headings, rows, f"What differs from {name}"))
    sourced = dict(_sources(name)) if own else {}
    rows = [
        (path, few(values, _SHOWN_VALUES), sourced.get(path, ""))
        for path, values in settings.items()
    ]
    whole = _table(("setting", "value", "source of the preset's value"), rows, "Every setting")
    summary = tag("summary", f"Every setting ({len(rows)})")
    return joined((*parts, tag("details", summary, whole)))


def _values(runs: Sequence[RunRecord]) -> Mapping[str, list[str]]:
    """Returns by setting its different values over the runs, in the order of the config."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for path, value in whole_settings_of(run.config).items():
            values = found.setdefault(path, [])
            if (text := _shown(value)) not in values:
                values.append(text)
    return found


def _sources(name: str) -> Iterator[tuple[str, str]]:
    yield from sources().items()
    for path, change in changes(name).items():
        yield path, change.source


def _shown(value: Any) -> str:
    words = as_words(value)
    if words is None:
        return "None"
    return f"{words:g}" if isinstance(words, float) and 1e-4 <= abs(words) < 1e6 else str(words)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> Html:
    head = tag("tr", *(tag("th", each, scope="col") for each in headings))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", each) for each in row[1:]))
        for row in rows
    ]
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="settings")
    return wide_table(table, f"{name}, {plural(len(rows), 'row')}")
