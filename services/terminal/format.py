"""Numbers and durations as a terminal shows them."""

from __future__ import annotations

import math

UNKNOWN = "–"


def format_number(value: float | None) -> str:
    """Returns a number with three significant digits and a thousands suffix (k, M, G, T)."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    if abs(value) < 1e-3:
        return f"{value:.2e}"
    for suffix in ("", "k", "M", "G"):
        if abs(value) < 999.5:
            return f"{_three_digits(value)}{suffix}"
        value /= 1000
    return f"{_three_digits(value)}T"


def _three_digits(value: float) -> str:
    """Returns the number in fixed notation; trailing zeros stay, so that columns do not jump."""
    magnitude = 0 if value == 0 else math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return f"{value:.{max(0, 2 - magnitude)}f}"


def format_duration(seconds: float | None) -> str:
    """Returns a duration in its two largest units, such as `4 min 10 s`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"
