"""Atari-5: what five games let expect of the median over 57."""

import pytest

from dreamer_core.scores.atari5 import WEIGHTS, estimated_median
from dreamer_core.scores.table import table_k1

RANDOM = {
    "battle_zone": 2360.0,
    "double_dunk": -18.6,
    "name_this_game": 2292.3,
    "phoenix": 761.4,
    "qbert": 163.9,
}
GAMER = {
    "battle_zone": 37187.5,
    "double_dunk": -16.4,
    "name_this_game": 8049.0,
    "phoenix": 7242.6,
    "qbert": 13455.0,
}


def test_random_play_and_worse_is_zero():
    assert estimated_median(RANDOM) == pytest.approx(0.0)
    assert estimated_median({game: score - 1 for game, score in RANDOM.items()}) == 0.0


def test_a_gamer_in_every_game_is_the_power_of_the_sum_of_the_weights():
    wanted = (101 ** sum(WEIGHTS.values()) - 1) / 100
    assert estimated_median(GAMER) == pytest.approx(wanted)
    assert round(wanted, 2) == 0.85, "the weights sum to less than 1"


def test_one_game_at_nine_percent_counts_its_weight():
    scores = RANDOM | {"qbert": 163.9 + 0.09 * (13455.0 - 163.9)}
    assert estimated_median(scores) == pytest.approx((10**0.0805 - 1) / 100)


def test_the_papers_agents_are_estimated_as_the_docstring_says():
    found = {
        agent: estimated_median({game: row.of(agent) for game, row in table_k1().items()})
        for agent in ("dreamerv2", "iqn", "rainbow")
    }
    rounded = {agent: round(value, 2) for agent, value in found.items()}
    assert rounded == {"dreamerv2": 2.03, "iqn": 0.96, "rainbow": 1.17}


@pytest.mark.parametrize("game", WEIGHTS)
def test_without_one_of_the_five_there_is_no_estimate(game):
    assert estimated_median({name: x for name, x in GAMER.items() if name != game}) is None
