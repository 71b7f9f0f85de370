"""Numbers, durations and lists in words, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "–"


def number(value: float | None) -> str:
    """Returns a number with up to three significant digits and a suffix of thousands."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    rounded = float(f"{value:.3g}")
    size = abs(rounded)
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{rounded / unit:.3g}{suffix}"
    text = f"{rounded:.2g}" if size < 1e-3 else f"{rounded:.3g}"
    return text.replace("e-0", "e-")


def score(value: float | None) -> str:
    """Returns a score in full: small ones with one digit after the point."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    is_small = abs(value) < 100 and value != int(value)
    return f"{value:z,.1f}" if is_small else f"{value:z,.0f}"


def duration(seconds: float | None) -> str:
    """Returns a duration in its two largest units, such as `4 min 10 s`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = round(seconds)
    for unit, large, small, name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit} {large} {whole % unit // small:02d} {name}"
    return f"{whole} s"


def plural(count: int, noun: str) -> str:
    """Returns how many, and the noun: `1 run`, `3 runs`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def few(names: Sequence[str], most: int, between: str = ", ") -> str:
    """Returns some of the names, `most` of them, and how many others there are."""
    more = len(names) - most
    return between.join(names[:most]) + (f" and {more} more" if more > 0 else "")
