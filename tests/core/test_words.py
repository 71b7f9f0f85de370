"""Numbers, durations and lists in words."""

import math

import pytest

from dreamer_core.words import duration, few, plural, score


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.inf, "–"),
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3_900, "1 h 05 min"),
        (180_000, "2 d 02 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text


def test_of_many_names_some_are_told_and_the_others_counted():
    assert few(["a", "b"], 2) == "a, b" and few(["a", "b", "c"], 1, "; ") == "a and 2 more"
    assert (plural(0, "run"), plural(1, "run"), plural(1_200, "run")) == (
        "0 runs",
        "1 run",
        "1,200 runs",
    )


def test_a_score_has_one_digit_where_it_is_small_and_no_sign_where_it_is_zero():
    assert [score(x) for x in (-0.04, -0.0, 3.0, -2.66, 1234.5)] == [
        "0.0",
        "0",
        "3",
        "-2.7",
        "1,234",
    ]
