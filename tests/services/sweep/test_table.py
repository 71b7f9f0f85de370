"""The table of a sweep, for a terminal of any size and at the end."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.sweep.plan import (
    RunKey,
)
from services.sweep.progress import SweepProgress
from services.sweep.table import render, render_end, render_line
from tests.services.sweep.parts import state, text_of


def many():
    running = [
        state(seed=seed, node="node-7", policy_step=100, mean_return=-20.5, episodes=3,
              policy_steps_per_second=12.0) for seed in range(30)
    ]  # fmt: skip
    reason = "the simulator's licence ran out " * 9
    failed = state("boxing", phase="failed", failures=3, reason=reason)
    return SweepProgress((*running, failed, state("hero", phase="waiting")))


def drawn(progress, *, height=24, width=110):
    return text_of(
        render(progress, sweep_dir=Path("sweeps/debug"), started_s=0, now_s=60, max_lines=height),
        width,
    )


@pytest.mark.parametrize(("height", "width"), [(24, 110), (50, 200), (12, 80), (8, 60), (24, 40)])
def test_the_table_fits_the_terminal(height, width):
    lines = drawn(many(), height=height, width=width).splitlines()
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_the_table_shows_totals_the_running_runs_and_how_many_it_leaves_out():
    text = drawn(many())
    assert "0 done, 30 running, 1 waiting, 1 failed" in text
    assert "360 policy steps/s in all" in text and "1 min 00 s so far" in text
    assert "pong" in text and "node-7" in text and "100 of 200" in text and "mean of 3" in text
    assert "and 15 more" in text


def test_the_table_shows_why_a_run_failed():
    text = drawn(SweepProgress(many().runs[-2:]))
    assert "boxing" in text and "failed: the simulator's" in text and "hero" not in text


def test_a_line_and_the_end_say_what_is_done_and_what_is_not():
    assert "30 running, 1 waiting, 1 failed  360 policy steps/s" in render_line(many())
    done = state("hero", phase="done", evaluation_return=7.0, policy_step=200)
    over = SweepProgress(
        (done, replace(done, key=RunKey("hero", 1), evaluation_return=8.0), many().runs[-2])
    )
    text = " ".join(text_of(render_end(over, Path("sweeps/debug"))).split())
    assert (
        "2 done, 0 running, 0 waiting, 1 failed" in text and "tries the failed runs again" in text
    )
    assert "hero 2 7.50 7 8" in text
    assert "boxing 0 3 the simulator's licence ran out" in text and "scores.json" in text


def test_a_sweep_that_has_waiting_or_running_runs_at_its_end_was_stopped():
    for phase in ("waiting", "running"):
        stopped = SweepProgress((state("hero", phase="done"), state(phase=phase)))
        assert "Stopped; the same" in text_of(render_end(stopped, Path("sweeps/debug")))
