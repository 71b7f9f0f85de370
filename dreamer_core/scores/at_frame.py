"""Where a score is taken: at a frame that was asked for, or not at all."""

from __future__ import annotations


class NoScore(Exception):
    """What was named is left out; the message is the reason."""


def require_there(
    newest: float | None, at_frames: int | None, *, reached_frame: float, interval_frames: float
) -> None:
    """Refuses a score at a frame where nothing was evaluated.

    Args:
        newest: env frame of the newest evaluation up to `at_frames`; None if there is none.
        at_frames: that was asked for; None: each at its newest, so that nothing is refused.
        reached_frame: how far it has come.
        interval_frames: from one evaluation to the next; the newest may be so much older.

    Raises:
        NoScore: there is none within an interval before.
    """
    if at_frames is None or (newest is not None and newest >= at_frames - interval_frames):
        return
    require_reached(reached_frame, at_frames)
    if newest is None:
        raise NoScore(f"it was first evaluated after --at-frames {at_frames:,}; ask for more")
    raise NoScore(
        f"its newest evaluation up to --at-frames {at_frames:,} is at {round(newest):,}, more than "
        f"one interval of {round(interval_frames):,} frames before; ask for a frame where it was "
        "evaluated"
    )


def require_reached(reached_frame: float, at_frames: int) -> None:
    """Refuses what has not come to a frame.

    Raises:
        NoScore: it has not.
    """
    if reached_frame < at_frames:
        raise NoScore(
            f"it is not there yet: it has come to {round(reached_frame):,} frames of --at-frames "
            f"{at_frames:,}; let it train on, or ask for fewer"
        )
