"""What several commands share of the command line: the settings, and `PRESET [options]`."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from dreamer_core import presets
from dreamer_core.config import Config
from dreamer_core.config_offline import Actions, OfflineConfig
from dreamer_core.errors import BadInput
from dreamer_core.run.schedule import Schedule
from services.cli.parsing import Root, parse
from services.logs import LogFormat
from services.runtime.config import ServiceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetConfig(Config):
    """Settings as options; the preset is named first, and is none of them."""

    preset: tyro.conf.Suppress[str] = "atari"
    offline: tyro.conf.Suppress[OfflineConfig] = field(default_factory=OfflineConfig)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflinePresetConfig(PresetConfig):
    """Settings of a run that only takes gradient steps."""

    steps: int = 1
    """Gradient steps after which the run ends; by default as many as an ordinary run of the preset
    takes."""


@dataclass(frozen=True, kw_only=True)
class OfflineCommand:
    """Trains from fixed replays, without collecting; resumes if the run directory holds the run.

    The replays are only read, also while their runs go on. Where policy steps or env frames are
    asked for, they are those that an ordinary run takes for as many gradient steps. Evaluations are
    played in --env.task, if that can be made.
    """

    config: Annotated[OfflinePresetConfig, Root] = field(default_factory=OfflinePresetConfig)
    replay: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """Run directories, or their replay directories; all of their rows are trained on."""
    actions: Actions | None = None
    """Kind of the actions, where neither an environment nor a run with a checkpoint says it."""
    run_dir: Path | None = None
    """Everything is written here; by default runs/offline_PRESET_TASK_SEED."""
    log_format: LogFormat = "text"
    """`json`: each line is an object, on a terminal too."""

    @property
    def trained(self) -> Config:
        """The config with the policy steps that stand for its gradient steps."""
        ratio = self.config.schedule.policy_steps_per_gradient_step
        return dataclasses.replace(self.config, steps=self.config.steps * ratio)


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
    _refuse_game(name, rest, usage)
    prog = f"{usage.rsplit(' ', 1)[0]} {name if has_preset else 'PRESET'}"
    preset = presets.preset(name)
    settings = _offline(preset) if command is OfflineCommand else preset
    return with_settings(command, rest, prog, settings)


def _refuse_game(name: str, rest: list[str], usage: str) -> None:
    """Raises BadInput where a game stands for the preset, or is named by `--game`."""
    option = "--games" if usage.startswith("dreamer sweep") else "--env.task"
    if any(word.partition("=")[0] == "--game" for word in rest):
        raise BadInput(f"There is no option --game: name the game with {option}")
    if name in presets.PRESETS:
        return
    from dreamer_core.envs.atari import is_game  # noqa: PLC0415 (imports ALE)

    if is_game(name):
        raise BadInput(
            f"Wanted {usage}, but {name!r} is a game: name a preset first, such as atari_tiny, and "
            f"the game with {option} {shlex.quote(name)}. See `dreamer presets`"
        )


def with_settings(command: Any, arguments: list[str], prog: str, settings: Config) -> Any:
    """Parses options, with these settings as their defaults."""
    is_ready = isinstance(settings, PresetConfig)
    default = command(config=settings if is_ready else _as(PresetConfig, settings))
    parsed = parse(command, arguments, prog, default)
    return dataclasses.replace(parsed, config=_anywhere(_as(Config, parsed.config)))


def _offline(preset: Config) -> Config:
    """The preset with as many gradient steps as it takes."""
    due = Schedule(preset.schedule, steps=preset.steps, is_lockstep=True).due(preset.steps)
    return _as(OfflinePresetConfig, dataclasses.replace(preset, steps=max(1, due)))


def _anywhere(config: Config) -> Config:
    """Has a path in the settings name the same place wherever the run is resumed."""
    source = config.init_from
    if not source or "://" in source:
        return config
    from dreamer_core.storage.named import DEMO_DIRECTORY, run_named  # noqa: PLC0415 (imports numpy)

    if run_named(source) == DEMO_DIRECTORY:
        return config
    return dataclasses.replace(config, init_from=str(Path(source).absolute()))


def _as(kind: type[Config], config: Config) -> Config:
    """The same settings as another class."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return kind(**values)
