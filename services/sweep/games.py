"""Which games, or environments, a sweep trains."""

from __future__ import annotations

from dataclasses import replace

from dreamer_core.config import Config
from dreamer_core.envs.atari import find_rom
from dreamer_core.envs.games import PAPER_GAMES
from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput

ALL_GAMES = "all"


def choose_games(games: str | None, config: Config) -> tuple[str, ...]:
    """Returns the games that `--games` names, once each of them could be made.

    Raises:
        UnknownTask: there is no such game, or environment.
        BadInput: as in `named_games`, or the environment cannot be used.
    """
    named = named_games(games, config)
    for game in named:
        environment_spec(replace(config.env, task=game))
    return named


def named_games(games: str | None, config: Config) -> tuple[str, ...]:
    """Returns the games that `--games` names; without it, the preset's own.

    Only games of Atari are looked for: other environments may be installed on a cluster alone.

    Raises:
        UnknownTask: there is no such game of Atari.
        BadInput: none is named, or `all` is not Atari.
    """
    if games == ALL_GAMES and config.env.suite != "atari":
        raise BadInput(
            f"--games {ALL_GAMES} means the {len(PAPER_GAMES)} Atari games of the paper, but "
            f"env.suite={config.env.suite}; name the environments, separated by commas"
        )
    if games == ALL_GAMES:
        return tuple(find_rom(game) for game in PAPER_GAMES)
    named = [
        name.strip()
        for name in (config.env.task if games is None else games).split(",")
        if name.strip()
    ]
    if not named:
        raise BadInput(f"--games {games!r} names no game; name some, or {ALL_GAMES}")
    if config.env.suite == "atari":
        named = [find_rom(name) for name in named]  # one spelling, one directory
    return tuple(dict.fromkeys(named))
