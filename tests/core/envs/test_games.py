"""The games of the paper."""

import pytest

from dreamer_core.envs.atari import find_rom
from dreamer_core.envs.games import PAPER_GAMES


def test_there_are_55_games_each_named_once():
    assert len(PAPER_GAMES) == len(set(PAPER_GAMES)) == 55


@pytest.mark.parametrize("game", PAPER_GAMES)
def test_each_goes_by_the_name_that_the_arcade_learning_environment_gives_it(game):
    assert find_rom(game) == game
