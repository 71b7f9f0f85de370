"""What a run is, for whoever looks at its numbers: its preset, what differs, every setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dreamer_core.config import Config
from dreamer_core.presets import PRESETS, differing, leaves, preset


@dataclass(frozen=True, slots=True)
class About:
    """Words and settings of a run."""

    texts: Mapping[str, str]
    """Markdown by tag: `run`, its preset and what differs from it, and `config`, all of it."""
    settings: Mapping[str, bool | float | str]
    """Every setting by its dotted path; what is no number is in words."""


def about(config: Config) -> About:
    """Returns what a run with this config is."""
    settings = dict(leaves(config))
    rows = [(path, str(value)) for path, value in settings.items()]
    return About(
        texts={"run": _run(config), "config": _table(("setting", "value"), rows)},
        settings={
            path: value if isinstance(value, bool | int | float | str) else str(value)
            for path, value in settings.items()
        },
    )


def _run(config: Config) -> str:
    known = PRESETS.get(config.preset)
    lines = [f"Preset **{config.preset}**{f': {known.summary}' if known else ''}.", ""]
    changed = differing(config, preset(config.preset)) if known else {}
    if not changed:
        return "\n".join([*lines, "No setting differs from it." if known else "It is not known."])
    rows = [(path, str(value), str(own)) for path, (value, own) in changed.items()]
    return "\n".join([*lines, _table(("setting", "here", "preset"), rows)])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
