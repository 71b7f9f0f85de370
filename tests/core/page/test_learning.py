"""Bands over seeds, and curves thinned and smoothed."""

import pytest

from dreamer_core.page.learning import evaluated, smoothed, thinned, together
from dreamer_core.report.evaluated import LastEpisodes, ScoredEpisode


def episodes(*pairs):
    return LastEpisodes(tuple(ScoredEpisode(frame, value) for frame, value in pairs))


def test_mean_and_standard_deviation_over_seeds_where_all_are_there():
    found = together([[(0, 1), (10, 3)], [(0, 3), (10, 7)]], limit=100)
    assert found.mean == [(0, 2), (10, 5)]
    (x0, low0, high0), (_, low1, high1) = found.band
    assert (x0, low0, high0) == (0, pytest.approx(2 - 2**0.5), pytest.approx(2 + 2**0.5))
    assert (low1, high1) == (pytest.approx(5 - 8**0.5), pytest.approx(5 + 8**0.5))


def test_a_seed_counts_between_its_first_and_last_point_only():
    found = together([[(0, 0), (20, 20)], [(10, 0)], []], limit=100)
    assert found.mean == [(0, 0), (10, 5), (20, 20)]
    assert [x for x, *_ in found.band] == [10]


def test_no_seed_has_no_curve():
    assert together([[], []], limit=10).mean == []


def test_a_long_curve_is_the_means_of_its_stretches_and_ends_where_it_ended():
    found = thinned([(x, float(x % 2)) for x in range(100)], 10)
    assert len(found) == 10 and found[-1] == (99, 0.5)
    assert len(together([[(x, 0.0) for x in range(1000)]] * 2, limit=10).mean) == 10


def test_training_is_smoothed_over_the_episodes_before():
    given = episodes(*((k, float(k)) for k in range(1, 31)))
    found = smoothed(given)
    assert found[0] == (1, 1.0) and found[9] == (10, 5.5)
    assert found[-1] == (30, pytest.approx(20.5))  # mean of 11 to 30


def test_evaluations_of_one_frame_are_one_point():
    assert evaluated(episodes((10, 1.0), (10, 3.0), (20, 5.0))) == [(10, 2.0), (20, 5.0)]
    assert evaluated(None) == [] and smoothed(None) == []
