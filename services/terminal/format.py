"""Numbers as a terminal shows them."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from shutil import which

from dreamer_core.words import UNKNOWN


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


def called_as() -> str:
    """Returns what calls this program here: `dreamer`, or where that is on no path its file."""
    name = sys.argv[0]
    is_ours = Path(name).name == "dreamer" and which("dreamer") is None
    return name if is_ours else "dreamer"
