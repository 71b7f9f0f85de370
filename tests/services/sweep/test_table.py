"""The table of a sweep, for a terminal of any size and at the end."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from services.cli.sweeping import say_end
from services.sweep.plan import (
    RunKey,
)
from services.sweep.progress import SweepProgress
from services.sweep.table import SweepDisplay, render, render_end, render_line
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


@pytest.mark.parametrize("width", [79, 60, 40])
def test_a_narrow_table_leaves_columns_out_and_cuts_no_number(width):
    text = drawn(many(), width=width)
    assert text.count("pong     0  ") == 1 and text.count("100 of 200") == 16
    assert text.count("-20.5 (mean of 3)") == (16 if "return" in text else 0)
    assert ("return" in text) == (width > 40)


@pytest.mark.parametrize("width", [79, 60])
def test_a_narrow_table_has_room_for_the_reason_of_a_failure(width):
    text = drawn(SweepProgress(many().runs[-3:]), width=width)
    assert "failed: the simulat" in text and "100 of 200" in text


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


def test_in_a_log_the_reasons_of_failed_runs_are_not_wrapped():
    console = Console(file=io.StringIO(), width=80)
    say_end(console, many(), Path("sweeps") / ("a-long-name-" * 9))
    lines = console.file.getvalue().splitlines()
    assert any(line.count("the simulator's licence ran out") == 9 for line in lines)
    assert all("sweeps/" not in line or "a-long-name-" * 9 in line for line in lines)


def said_by(console):
    """Shows a sweep for 35 s, with progress at 15 alone; returns what was said at which second."""
    now_s, said, length = [0.0], {}, 0
    with SweepDisplay(Path("sweeps/debug"), console=console, clock_s=lambda: now_s[0]) as shown:
        for second in range(35):
            now_s[0] = float(second)
            if second == 2:
                shown.heard("Starting Ray")
            if second == 15:
                shown.update(many())
            shown.tick()
            text = console.file.getvalue()
            if len(text) > length:
                said[second] = text[length:].strip()
            length = len(text)
    return said


def test_a_sweep_is_never_silent_for_longer_than_ten_seconds(no_ticks):
    said = said_by(Console(file=io.StringIO(), width=110))
    assert list(said) == [11, 15, 24, 33]
    assert said[11].endswith("Starting Ray: 9 s so far") and "360 policy steps/s" in said[33]


def test_a_terminal_without_the_table_yet_says_what_it_waits_for(no_ticks):
    terminal = {"force_terminal": True, "_environ": {"TERM": "xterm"}}
    said = said_by(Console(file=io.StringIO(), width=110, **terminal))
    assert said[11] == "Starting Ray: 9 s so far" and "so far" not in said[15]
