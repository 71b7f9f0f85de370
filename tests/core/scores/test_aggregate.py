"""One number for many games: the paper's four, those of Agarwal et al., and their intervals."""

import math
import statistics

import numpy as np
import pytest

from dreamer_core.scores.aggregate import AGGREGATES, aggregate, intervals, to_json
from dreamer_core.scores.table import AGENTS, table_k1

PAPER = {  # gamer median, gamer mean, record mean, clipped record mean
    "dreamerv2": (2.146, 11.25, 0.438, 0.279),
    "iqn": (1.29, 8.76, 0.211, 0.209),
    "rainbow": (1.47, 9.03, 0.173, 0.173),
}
THREE_SEEDS = {
    "pong": [-21.0, 15.0, 21.0],
    "boxing": [12.0, 6.0, 90.0],
    "alien": [300.0, 7000.0, 2000.0],
    "breakout": [20.0, 400.0, 864.0],
}


@pytest.mark.parametrize("agent", AGENTS)
def test_the_columns_of_table_k1_give_the_rows_of_table_1(agent):
    found = aggregate({game: [row.of(agent)] for game, row in table_k1().items()})
    median, mean, record, clipped = PAPER[agent]
    assert found.gamer_median == pytest.approx(median, abs=5e-3)
    assert found.gamer_mean == pytest.approx(mean, abs=5e-3)
    assert found.record_mean == pytest.approx(record, abs=5e-4)
    assert found.clipped_record_mean == pytest.approx(clipped, abs=5e-4)


def slow(scores):
    """The aggregates by loops, as their definitions say."""
    rows = table_k1()
    gamer, record, runs = [], [], []
    for game, seeds in scores.items():
        row = rows[game]
        by_gamer = [(x - row.random) / (row.gamer - row.random) for x in seeds]
        by_record = [(x - row.random) / (row.record - row.random) for x in seeds]
        gamer.append(sum(by_gamer) / len(seeds))
        record.append(sum(by_record) / len(seeds))
        runs += by_gamer
    runs.sort()
    cut = int(0.25 * len(runs))
    middle = runs[cut : len(runs) - cut]
    return {
        "gamer_median": statistics.median(gamer),
        "gamer_mean": sum(gamer) / len(gamer),
        "record_mean": sum(record) / len(record),
        "clipped_record_mean": sum(x if x < 1 else 1 for x in record) / len(record),
        "iqm": sum(middle) / len(middle),
        "optimality_gap": sum(1 - x if x < 1 else 0 for x in runs) / len(runs),
    }


@pytest.mark.parametrize("games", [1, 2, 3, 4])
def test_every_aggregate_is_what_loops_say(games):
    scores = dict(list(THREE_SEEDS.items())[:games])
    found, wanted = aggregate(scores), slow(scores)
    for name in AGGREGATES:
        assert getattr(found, name) == pytest.approx(wanted[name]), name


def test_iqm_leaves_out_a_quarter_at_either_end_and_the_gap_what_is_beyond_one():
    scores = {"pong": [-21.0, -12.0, -3.0, 51.0]}  # by gamer 0, 0.25, 0.5, 2
    found = aggregate(scores)
    assert found.iqm == pytest.approx(0.375)
    assert found.optimality_gap == pytest.approx((1 + 0.75 + 0.5 + 0) / 4)
    assert found.gamer_mean == pytest.approx(0.6875)


def test_the_mean_of_a_game_is_clipped_and_not_each_seed():
    half_and_double = {"pong": [0.0, 63.0]}  # by record 0.5 and 2
    assert aggregate(half_and_double).record_mean == pytest.approx(1.25)
    assert aggregate(half_and_double).clipped_record_mean == pytest.approx(1.0)


def test_the_bootstrap_is_what_a_loop_over_the_same_draws_says():
    rng, resamples = np.random.default_rng(7), 200
    draws = [rng.integers(3, size=(resamples, 3)) for _ in THREE_SEEDS]
    samples = [
        slow(
            {
                game: [seeds[i] for i in draw[b]]
                for (game, seeds), draw in zip(THREE_SEEDS.items(), draws, strict=True)
            }
        )
        for b in range(resamples)
    ]
    found = intervals(THREE_SEEDS, resamples=resamples, seed=7)
    for name in AGGREGATES:
        ordered = sorted(sample[name] for sample in samples)
        for bound, share in ((found[name].low, 0.025), (found[name].high, 0.975)):
            at = share * (resamples - 1)
            below, above = ordered[math.floor(at)], ordered[math.ceil(at)]
            assert bound == pytest.approx(below + (at % 1) * (above - below)), name


def test_two_seeds_of_one_game_give_the_interval_that_can_be_worked_out():
    """The mean of two draws of 0 and 1 is 0, 1/2 or 1 with 1/4, 1/2 and 1/4."""
    found = intervals({"pong": [-21.0, 15.0]})
    assert (found["gamer_mean"].low, found["gamer_mean"].high) == (0.0, 1.0)
    ten = intervals({"pong": [-21.0] * 5 + [15.0] * 5}, resamples=20_000)["gamer_mean"]
    assert (ten.low, ten.high) == (0.2, 0.8), "binomial: P(k < 2) = 0.011, P(k <= 2) = 0.055"


def test_seeds_are_drawn_within_a_game_and_never_across():
    found = intervals({"pong": [15.0, 15.0], "boxing": [0.0, 0.0]})
    assert (found["gamer_mean"].low, found["gamer_mean"].high) == (0.5, 0.5)


def test_the_same_seed_draws_the_same():
    first, again = intervals(THREE_SEEDS, seed=3), intervals(THREE_SEEDS, seed=3)
    assert first == again != intervals(THREE_SEEDS, seed=4)


def test_one_seed_of_each_game_has_no_interval_and_json_says_so():
    scores = {"pong": [20.0], "boxing": [90.0]}
    assert intervals(scores) is None
    assert to_json(aggregate(scores), None)["iqm"]["interval"] is None


def test_a_second_seed_of_one_game_gives_an_interval_of_that_game_alone():
    found = intervals({"pong": [-21.0, 15.0], "boxing": [12.0]})
    assert (found["gamer_mean"].low, found["gamer_mean"].high) == (0.5, 1.0)


def test_unequal_numbers_of_seeds_are_what_loops_say():
    scores = {"pong": [-21.0, 15.0, 3.0], "boxing": [12.0], "alien": [300.0, 7000.0]}
    found, wanted = aggregate(scores), slow(scores)
    for name in AGGREGATES:
        assert getattr(found, name) == pytest.approx(wanted[name]), name
