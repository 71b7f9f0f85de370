"""Table K.1 as data of the package, and the names of its games."""

import pytest

from dreamer_core.envs.games import RANDOM_RETURNS
from dreamer_core.errors import BadInput
from dreamer_core.scores.table import game_named, table_k1


def test_the_table_has_the_games_and_the_random_returns_that_runs_are_shown_beside():
    assert {game: row.random for game, row in table_k1().items()} == RANDOM_RETURNS


def test_random_play_is_zero_and_gamer_and_record_are_one():
    pong = table_k1()["pong"]  # random -21, gamer 15, record 21
    assert (pong.by_gamer(-21), pong.by_gamer(15), pong.by_record(21)) == (0, 1, 1)
    assert pong.by_gamer(-3) == 0.5 and pong.by_record(0) == 0.5


@pytest.mark.parametrize(
    ("name", "game"),
    [
        ("ms_pacman", "ms_pacman"),
        ("Ms Pacman", "ms_pacman"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("MsPacmanNoFrameskip-v4", "ms_pacman"),
        ("Montezuma's Revenge", "montezuma_revenge"),
        ("Q*bert", "qbert"),
        ("Defender", "defender"),
    ],
)
def test_a_game_is_known_by_the_names_that_others_give_it(name, game):
    assert game_named(name) == game


def test_every_game_is_known_by_its_name_in_the_paper():
    assert [game_named(row.title) for row in table_k1().values()] == list(table_k1())


@pytest.mark.parametrize(("name", "part"), [("pongg", "did you mean pong"), ("", "as in `pong`")])
def test_another_name_is_refused_with_the_closest(name, part):
    with pytest.raises(BadInput, match=part):
        game_named(name)
