"""What a sweep is made of: one preset on many games, each with several seeds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.presets import differing, leaves, preset

_PER_RUN = {
    "--env.task": "each run has a game of its own; name them with --games",
    "--seed": "each run has a seed of its own; name them with --first-seed and --seeds",
    "--run-dir": "each run has a directory of its own; name the place for all with --sweep-dir",
}


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """Which run of a sweep."""

    game: str
    seed: int

    @property
    def name(self) -> str:
        """Of the run's directory and log."""
        return f"{''.join(c if c.isalnum() else '_' for c in self.game)}_{self.seed}"

    def __str__(self) -> str:
        return f"{self.game} {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """Settings that all runs share, and the runs."""

    config: Config
    """Its task and seed are of no meaning."""
    games: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        names = {RunKey(game, 0).name: game for game in self.games}
        if len(names) < len(self.games):
            raise BadInput(
                f"Of the games {', '.join(self.games)} two would share a run directory; rename one"
            )
        url = self.config.checkpoint.url or ""
        if url.startswith("memory:"):
            raise BadInput(
                f"checkpoint.url={url} is the memory of one process, so that no run could be "
                "resumed; name a path or s3://bucket/sweep"
            )

    @property
    def keys(self) -> tuple[RunKey, ...]:
        """All runs, in the order in which they start: every game once before any game twice."""
        return tuple(RunKey(game, seed) for seed in self.seeds for game in self.games)

    def config_of(self, key: RunKey) -> Config:
        """The config of one run; checkpoints that go to a URL get a place of their own there."""
        config, url = self.config, self.config.checkpoint.url
        if url is not None:
            url = f"{url.rstrip('/')}/{key.name}"
        return replace(
            config,
            seed=key.seed,
            env=replace(config.env, task=key.game),
            checkpoint=replace(config.checkpoint, url=url),
        )


def refuse_options_of_one_run(arguments: list[str]) -> None:
    """Refuses options of `dreamer local` that would be the same for all runs of a sweep.

    Raises:
        BadInput: one is there, with what to write instead.
    """
    for option, why in _PER_RUN.items():
        if any(argument.split("=")[0] == option for argument in arguments):
            raise BadInput(f"{option} cannot be set for a sweep: {why}")


def local_command(config: Config, run_dir: Path) -> list[str]:
    """Returns the arguments of `dreamer` that train this config in one process."""
    told = {"env.task", "seed", "steps", *differing(config, preset(config.preset))}
    options = ["local", config.preset, "--run-dir", str(run_dir)]
    for path, value in leaves(config):
        if path in told:
            options += option_of(path, value)
    return options


def option_of(path: str, value: Any) -> list[str]:
    """Returns the words of the command line that set a config's field, by its dotted path."""
    *sections, name = re.sub(r"_(?!$)", "-", path).split(".")  # `lambda_` keeps what it ends with
    if isinstance(value, bool):
        return ["--" + ".".join([*sections, name if value else f"no-{name}"])]
    words = ",".join(value) if isinstance(value, tuple) else str(value)
    return ["--" + ".".join([*sections, name]), words]
