"""`dreamer check-env`: what an environment is, what the agent sees of it, what may go wrong."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from dreamer_core.config import EnvConfig
from dreamer_core.errors import BadInput, naming
from dreamer_core.presets import PRESETS, preset
from dreamer_core.words import duration, plural
from services.cli.parsing import parse, take_option
from services.sweep.plan import option_of
from services.terminal.format import format_number

if TYPE_CHECKING:
    from dreamer_core.run.trial import Trial  # imports PyTorch

_PRESET_OF_SUITE = {
    "atari": "atari_tiny",
    "control": "control_tiny",
    "gymnasium": "gymnasium_tiny",
}
_WRONG = 2
_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class CheckEnvCommand:
    """Plays an environment at random as a run would, and says what it is and what may go wrong.

    Exits with 2 where something is wrong, with 0 otherwise, risks included.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    steps: int = 500
    """Policy steps to play."""
    seed: int = 0
    """Of the environment and the actions."""
    to: Path | None = None
    """Where the picture of what the agent sees goes; by default check_TASK.png here."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise BadInput(f"--steps {self.steps}: wanted 1 or more")
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: wanted 0 or more")
        if self.to is not None and self.to.suffix.lower() != ".png":
            raise BadInput(f"--to {self.to}: wanted a name that ends in .png")


def run(arguments: list[str]) -> int:
    """Tries the environment, and returns the exit code."""
    name, command = _parsed(arguments)
    # Seconds of imports: help and wrong options do without.
    from dreamer_core.report.contact_sheet import save_contact_sheet  # noqa: PLC0415
    from dreamer_core.run.findings import ENOUGH_STEPS, findings, suggestions  # noqa: PLC0415
    from dreamer_core.run.trial import try_environment  # noqa: PLC0415

    config = command.env
    path = command.to or Path(f"check_{re.sub(r'[^A-Za-z0-9_-]+', '_', config.task)}.png")
    console = Console(markup=False)
    console.print(
        f"{config.task} of suite {config.suite}: {command.steps:,} policy steps at random"
    )
    trial = try_environment(config, steps=command.steps, seed=command.seed, is_repeated=True)
    for label, text in _facts(config, trial):
        words = textwrap.wrap(text, _WIDTH - 15) or [""]
        for first, line in zip([label, *[""] * len(words)], words, strict=False):
            _say(console, f"  {first:<13}{line}")
    if trial.pictures:
        tiles = [(f"{p.step}, reward {p.reward:.2g}", p.image) for p in trial.pictures]
        with naming(f"write the picture {path}", "Name another file with --to"):
            save_contact_sheet(path, trial.screen, tiles)
        _say(console, f"  picture      {path}")
    found = findings(config, trial)
    for finding in found:
        word = "wrong" if finding.is_wrong else "risk"
        _say(console, f"{word}: {finding.what}.")
        _say(console, f"  {finding.advice}.")
    if trial.num_steps < ENOUGH_STEPS:
        _say(console, f"Rewards, ends and speed are judged from {ENOUGH_STEPS} policy steps on.")
    elif not found:
        _say(console, "Nothing looks wrong.")
    if any(finding.is_wrong for finding in found):
        return _WRONG
    options = _options(name, config, suggestions(config, trial))
    _say(console, f"Train on it: dreamer train {options}")
    return 0


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def _parsed(arguments: list[str]) -> tuple[str, CheckEnvCommand]:
    """The preset that the environment's settings come from, and the command."""
    is_named = bool(arguments) and not arguments[0].startswith("-")
    if not is_named and not {"-h", "--help"} & set(arguments):
        raise BadInput(
            "Wanted dreamer check-env SUITE-OR-TASK [options], such as `check-env pong` or "
            "`check-env my_package.my_module:make_env`, but nothing was named first"
        )
    what, rest = (arguments[0], arguments[1:]) if is_named else ("atari", arguments)
    suite = take_option("--env.suite", rest)[0]
    if suite not in (None, *_PRESET_OF_SUITE):
        raise BadInput(f"--env.suite {suite}: known are {', '.join(_PRESET_OF_SUITE)}")
    name = _PRESET_OF_SUITE.get(what) or (what if what in PRESETS else None)
    if name is not None:
        env = preset(name).env
    else:
        from dreamer_core.envs.suites import suite_of  # noqa: PLC0415 (imports Gymnasium)

        name = _PRESET_OF_SUITE[suite or suite_of(what)]
        env = replace(preset(name).env, task=what)
    prog = f"dreamer check-env {what if is_named else 'SUITE-OR-TASK'}"
    return name, parse(CheckEnvCommand, rest, prog, CheckEnvCommand(env=env))


def _options(name: str, config: EnvConfig, suggested: list[str]) -> str:
    """The preset, and how the environment differs from the preset's."""
    words, before = [name], preset(name).env
    for key in EnvConfig.__dataclass_fields__:
        if (value := getattr(config, key)) != getattr(before, key):
            words += option_of(f"env.{key}", value)
    return " ".join([shlex.join(words), *suggested])


def _facts(config: EnvConfig, trial: Trial) -> Iterator[tuple[str, str]]:
    """What the environment is, by short labels."""
    spec = trial.spec
    yield "observes", trial.spaces[0]
    parts = []
    if spec.image_shape[-1]:
        colours = "gray" if spec.image_shape[-1] == 1 else "colour"
        parts.append(f"an image of 64 x 64, {colours}")
    if spec.vector_size:
        parts.append(plural(spec.vector_size, "number"))
    yield "agent sees", " and ".join(parts)
    yield "actions", trial.spaces[1]
    kind = "one of" if spec.action_classes is None else "a choice of each of"
    classes = spec.action_classes or (spec.action_size,)
    counts = ", ".join(map(str, classes))
    numbers = f"{plural(spec.action_size, 'number')} in [-1, 1]"
    yield "agent acts", f"{kind} {counts}" if spec.is_discrete else numbers
    frames = spec.frames_per_policy_step
    yield (
        "policy step",
        f"{plural(frames, 'frame')} (action repeat {config.action_repeat})",
    )
    if not trial.num_steps:
        return
    yield "episodes", _episodes(config, trial)
    rewards = np.array(trial.rewards)
    yield (
        "rewards",
        f"{rewards.min():.3g} to {rewards.max():.3g}, mean {rewards.mean():.3g}; "
        f"{(rewards == 0).mean():.0%} are zero",
    )
    yield "speed", _speed(trial)
    if trial.num_repeated:
        again = f"the same in {trial.num_repeated} policy steps"
        if trial.differs_at is not None:
            again = f"another episode from policy step {trial.differs_at} on"
        yield "same seed", again


def _episodes(config: EnvConfig, trial: Trial) -> str:
    limits = [n for n in (config.time_limit_steps, trial.own_limit_steps) if n is not None]
    bound = f"; the limit is {min(limits):,} policy steps" if limits else ""
    if not trial.lengths:
        return f"none ended{bound}"
    lengths, returns = np.array(trial.lengths), np.array(trial.returns)
    by_limit = len(lengths) - trial.num_terminal
    return (
        f"{len(lengths)} ended, {trial.num_terminal} by themselves and {by_limit} by a limit; "
        f"{lengths.min()} to {lengths.max()} policy steps, returns {returns.min():.3g} to "
        f"{returns.max():.3g}, mean {returns.mean():.3g}{bound}"
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{1e3 * seconds:,.0f} ms"


def _speed(trial: Trial) -> str:
    seconds, steps = trial.seconds, trial.num_steps
    step_s, reset_s = seconds.get("step", 0.0), seconds.get("reset", 0.0)
    resets = len(trial.lengths) + bool(trial.num_unfinished)
    render = f", {seconds['render'] / (step_s + reset_s):.0%} of all that rendering"
    return (
        f"{format_number(trial.steps_per_second)} policy steps a second: "
        f"{_milliseconds(step_s / steps)} a step, {_milliseconds(reset_s / max(1, resets))} a reset"
        + (render if seconds["render"] else "")
        + f"; made in {seconds['make']:.2g} s; a million policy steps take "
        + duration(1e6 / trial.steps_per_second)
    )
