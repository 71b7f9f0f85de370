"""When a wait has become so long that a word about it is due."""

from __future__ import annotations

_FIRST_S = 10.0
_LONGEST_S = 300.0


class Patience:
    """Runs out after 10 s of a wait, and again each time that the wait has become twice as long.

    From 5 minutes on it runs out every 5 minutes.

    Args:
        began_s: when the wait began, on any clock that never goes back.
    """

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self._due_s = began_s + _FIRST_S

    def has_run_out(self, now_s: float) -> bool:
        """Whether a word is due now; says so once."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + min(now_s - self.began_s, _LONGEST_S)
        return True
