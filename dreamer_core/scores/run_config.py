"""The config of a run that is scored, as it lies there: one of another version has other settings.

What the report computes with is checked; of everything else it only tells.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from dreamer_core.errors import BadInput, naming
from dreamer_core.fields import TOO_LARGE


class _Whole(NamedTuple):
    """What a setting has to be, where it is there."""

    least: int
    may_be_off: bool = False


_SECTIONS = ("env", "evaluation")
_WHOLE = {
    "seed": _Whole(0),
    "env.action_repeat": _Whole(1),
    "env.time_limit_steps": _Whole(1, may_be_off=True),
    "evaluation.interval_frames": _Whole(1, may_be_off=True),
    "evaluation.episodes": _Whole(1),
    "evaluation.episode_limit": _Whole(1),
}


def read_run_config(path: Path) -> dict[str, Any]:
    """Returns the config.

    Raises:
        BadInput: it cannot be read, or a setting is not what the report can compute with.
    """
    with naming(f"read {path}", "Mend its permissions"):
        content = path.read_bytes()
    try:
        config = json.loads(content, parse_float=_finite, parse_constant=_finite)
        sections = {name: config.get(name, {}) for name in _SECTIONS}
    except (ValueError, RecursionError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read as a config: {error}; restore it") from error
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise BadInput(f"{path} cannot be read as a config: {name} is no section; restore it")
    for setting, wanted in _WHOLE.items():
        section, _, name = setting.rpartition(".")
        found = sections[section] if section else config
        _require(path, setting, wanted, found.get(name, wanted.least))
    return config


def _require(path: Path, setting: str, wanted: _Whole, value: Any) -> None:
    if value is None and wanted.may_be_off:
        return
    if not _is_whole(value, wanted.least):
        or_off = " or null" if wanted.may_be_off else ""
        raise BadInput(
            f"{path} cannot be used: {setting} is {_shown(value)}; wanted a whole number of "
            f"{wanted.least} or more{or_off}. Restore it"
        )


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < TOO_LARGE


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
