"""Table K.1 of the paper: scores of players and agents on the 55 Atari games."""

from __future__ import annotations

import csv
import difflib
import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, get_args

from dreamer_core.errors import BadInput

Agent = Literal["rainbow", "iqn", "dreamerv2"]
AGENTS: tuple[Agent, ...] = get_args(Agent)
"""The agents whose scores the table has."""
TITLES: dict[Agent, str] = {"rainbow": "Rainbow", "iqn": "IQN", "dreamerv2": "DreamerV2"}
"""How the paper writes them."""
NOT_IN_TABLE = ("defender", "surround")
"""The two games of the 57 of others that the paper leaves out."""

_OF_AN_ID = re.compile(r"^.*/|(noframeskip)?-v\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class GameRow:
    """One game of Table K.1; scores as printed, rounded to whole numbers."""

    title: str
    """As the paper writes it."""
    game: str
    """As the Arcade Learning Environment names it."""
    random: float
    """Of random play."""
    gamer: float
    """Of a professional human gamer."""
    record: float
    """The human world record."""
    rainbow: float
    iqn: float
    dreamerv2: float

    def by_gamer(self, score: float) -> float:
        """Returns the score with random play at 0 and the gamer at 1."""
        return (score - self.random) / (self.gamer - self.random)

    def by_record(self, score: float) -> float:
        """Returns the score with random play at 0 and the human world record at 1."""
        return (score - self.random) / (self.record - self.random)

    def of(self, agent: Agent) -> float:
        """Returns the score of an agent."""
        return getattr(self, agent)


@functools.cache
def table_k1() -> dict[str, GameRow]:
    """Returns the rows by the names of the Arcade Learning Environment, in the table's order."""
    text = (files("dreamer_core") / "scores" / "table_k1.csv").read_text()
    rows = (
        GameRow(
            title=cells["game"],
            game=cells["rom"],
            random=float(cells["random"]),
            gamer=float(cells["gamer"]),
            record=float(cells["record"]),
            rainbow=float(cells["rainbow"]),
            iqn=float(cells["iqn"]),
            dreamerv2=float(cells["dreamerv2"]),
        )
        for cells in csv.DictReader(text.splitlines())
    )
    return {row.game: row for row in rows}


def game_named(name: str) -> str:
    """Returns the game that is meant, as the Arcade Learning Environment names it.

    Args:
        name: `ms_pacman`, `Ms Pacman`, `MsPacman` or `ALE/MsPacman-v5`; one of NOT_IN_TABLE too.

    Raises:
        BadInput: there is no such game; the closest ones are named.
    """
    known = {game.replace("_", ""): game for game in (*table_k1(), *NOT_IN_TABLE)}
    bare = _OF_AN_ID.sub("", name.lower())
    for spelling in (bare, bare.replace("'s", "")):  # the paper's Montezuma has no genitive
        letters = "".join(c for c in spelling if c.isalnum())
        if letters in known:
            return known[letters]
    close = [known[each] for each in difflib.get_close_matches(bare, known, n=3)]
    hint = f"did you mean {' or '.join(close)}?" if close else "they are named as in `pong`"
    raise BadInput(f"There is no game {name!r} among the {len(table_k1())} of the paper: {hint}")
