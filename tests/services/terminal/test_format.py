"""Numbers as a terminal shows them."""

import math

import pytest

from services.terminal.format import format_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-20.0, "-20"),
        (999, "999"),
        (1000, "1.00k"),
        (999_900, "1.00M"),
        (82_000, "82.0k"),
        (50_000_000, "50.0M"),
        (8.2e9, "8.20G"),
        (3e12, "3.00T"),
        (3.456, "3.46"),
        (9.999, "10.0"),
        (99.96, "100"),
        (0.0123, "0.0123"),
        (-0.00123, "-0.00123"),
        (1.5e-5, "1.50e-05"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert format_number(value) == text
