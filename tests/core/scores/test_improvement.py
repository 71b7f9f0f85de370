"""Probability of improvement: numbers worked out by hand, and a slow version."""

import itertools

import numpy as np
import pytest

from dreamer_core.scores.improvement import improvement, interval_of_mean


def test_it_is_the_share_of_pairs_that_are_won_and_a_tie_is_half_a_win():
    found = improvement({"pong": [1.0, 2.0, 3.0]}, {"pong": [0.0, 2.0]})
    # 1 beats 0; 2 beats 0 and ties; 3 beats both: 1 + 1.5 + 2 of 6.
    assert found.probability == 4.5 / 6


def test_games_count_alike_however_many_seeds_they_have_and_those_of_one_agent_do_not():
    one = {"pong": [5.0], "boxing": [1.0, 1.0, 1.0], "alien": [9.0]}
    other = {"pong": [0.0, 0.0], "boxing": [2.0], "breakout": [0.0]}
    found = improvement(one, other)
    assert found.probability == 0.5 and found.games == ("pong", "boxing")


def test_what_one_wins_the_other_loses():
    rng = np.random.default_rng(0)
    one = {game: list(rng.integers(0, 4, 3).astype(float)) for game in "abc"}
    other = {game: list(rng.integers(0, 4, 5).astype(float)) for game in "abc"}
    back_and_forth = improvement(one, other).probability + improvement(other, one).probability
    assert back_and_forth == pytest.approx(1.0)


def slow(one, other):
    """By loops, as Agarwal et al. (2021) define it."""
    by_game = []
    for game in one:
        won = [(x > y) + (x == y) / 2 for x, y in itertools.product(one[game], other[game])]
        by_game.append(sum(won) / len(won))
    return sum(by_game) / len(by_game)


def test_value_and_interval_are_what_loops_say():
    rng = np.random.default_rng(1)
    one = {game: rng.normal(0.3, 1, 4).round(1) for game in "abcd"}
    other = {game: rng.normal(0.0, 1, 3).round(1) for game in "abcd"}
    found = improvement(one, other, resamples=4_000)
    assert found.probability == pytest.approx(slow(one, other))
    draws = np.random.default_rng(2)
    samples = [
        slow(*({g: draws.choice(x, len(x)) for g, x in each.items()} for each in (one, other)))
        for _ in range(1_000)
    ]
    low, high = np.percentile(samples, [2.5, 97.5])
    assert found.interval.low == pytest.approx(low, abs=0.04)
    assert found.interval.high == pytest.approx(high, abs=0.04)


def test_single_seeds_have_no_interval_and_no_common_game_no_answer():
    assert improvement({"pong": [1.0]}, {"pong": [0.0]}).interval is None
    assert improvement({"pong": [1.0]}, {"boxing": [0.0]}) is None
    found = improvement({"pong": [1.0]}, {"pong": [0.0, 2.0]}).interval
    assert (found.low, found.high) == (0.0, 1.0)  # several of one agent are enough


def test_the_interval_of_a_mean_of_two_seeds_reaches_from_one_to_the_other():
    found = interval_of_mean([1.0, 3.0])
    assert (found.low, found.high) == (1.0, 3.0)  # a quarter of the samples is at either end
    assert interval_of_mean([1.0]) is None


def test_the_interval_of_a_mean_leaves_out_a_fortieth_at_either_end():
    found = interval_of_mean([0.0, 0.0, 1.0])  # 8/27 of the samples are 0, and 1/27 are 1
    assert (found.low, found.high) == (0.0, 1.0)
    found = interval_of_mean([0.0, 0.0, 0.0, 0.0, 1.0])  # 0.7% of the samples are 4/5 or more
    assert (found.low, found.high) == (0.0, 0.6)
