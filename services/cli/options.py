"""What several commands share of the command line: the settings, and `PRESET [options]`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from dreamer_core import presets
from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.storage.named import DEMO_DIRECTORY, run_named
from services.cli.parsing import Root, parse
from services.logs import LogFormat
from services.runtime.config import ServiceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetConfig(Config):
    """Settings as options; the preset is named first, and is none of them."""

    preset: tyro.conf.Suppress[str] = "atari"
    init_from: Annotated[
        str | None, tyro.conf.arg(aliases=["--from"], metavar="RUN_OR_CHECKPOINT")
    ] = None
    """Begin a new run with the networks of another, of the same sizes: its directory, a checkpoint,
    a URL of checkpoints, or `demo`, the agent that comes with this program. Optimisers, counters
    and replay begin anew."""


@dataclass(frozen=True, kw_only=True)
class LocalCommand:
    """Trains a preset in this process, without Ray; resumes if the run directory holds the run."""

    config: Annotated[PresetConfig, Root] = field(default_factory=PresetConfig)
    run_dir: Path | None = None
    """Everything is written here; by default runs/PRESET_TASK_SEED."""
    log_format: LogFormat = "text"
    """`json`: each line is an object, on a terminal too."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Trains a preset through the services; resumes if the run directory holds the run."""

    config: Annotated[PresetConfig, Root] = field(default_factory=PresetConfig)
    services: Annotated[ServiceConfig, Root] = field(default_factory=ServiceConfig)
    run_dir: Path | None = None
    """Everything is written here; by default runs/PRESET_TASK_SEED."""
    log_format: LogFormat = "text"
    """`json`: each line is an object, on a terminal too."""


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
    prog = f"{usage.rsplit(' ', 1)[0]} {name if has_preset else 'PRESET'}"
    return with_settings(command, rest, prog, presets.preset(name))


def with_settings(command: Any, arguments: list[str], prog: str, settings: Config) -> Any:
    """Parses options, with these settings as their defaults."""
    default = command(config=_as(PresetConfig, settings))
    parsed = parse(command, arguments, prog, default)
    return dataclasses.replace(parsed, config=_anywhere(_as(Config, parsed.config)))


def _anywhere(config: Config) -> Config:
    """Has a path in the settings name the same place wherever the run is resumed."""
    source = config.init_from
    if not source or "://" in source or run_named(source) == DEMO_DIRECTORY:
        return config
    return dataclasses.replace(config, init_from=str(Path(source).absolute()))


def _as(kind: type[Config], config: Config) -> Config:
    """The same settings as another class."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return kind(**values)
