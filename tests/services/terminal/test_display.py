"""The progress table and its plain form."""

import io
import sys
import time

from rich.console import Console

from dreamer_core.report.report import EpisodeSummary, Report
from services.terminal.display import (
    Display,
    Progress,
    render,
    render_line,
)

VALUES = {
    "dreamer_env_frames_total": 328_000,
    "dreamer_episodes_total": 42,
    "dreamer_image_mean_squared_error": 0.00123,
    "dreamer_kl_nats": 3.456,
    "dreamer_actor_loss": -0.0123,
    "dreamer_policy_steps_per_gradient_step": 4.0,
    "dreamer_policy_lag_gradient_steps": 16,
}
SPEEDS = {"dreamer_policy_steps_per_second": 200, "dreamer_gradient_steps_per_second": 50}


def episodes(*returns):
    return tuple(EpisodeSummary(policy_step=1, episode_return=r, length=1) for r in returns)


def halfway():
    start = Progress(total_policy_steps=200_000, total_gradient_steps=50_000, started_s=0.0)
    report = Report(service="collector", values=VALUES, episodes=episodes(-20, -18))
    early = start.advance(report, policy_step=80_000, gradient_step=20_000)
    return early.advance(
        Report(service="supervisor", values=SPEEDS), policy_step=82_000, gradient_step=20_500
    )


def text_of(renderable, width=110):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def drawn(width=110, url="http://127.0.0.1:9100/metrics"):
    return text_of(render(halfway(), run_dir="runs/pong", metrics_url=url, now_s=100.0), width)


def test_speeds_and_time_left_are_those_that_are_reported():
    progress = halfway()
    assert progress.policy_steps_per_second == 200.0
    assert progress.gradient_steps_per_second == 50.0
    assert progress.time_left_s == (50_000 - 20_500) / 50


def test_frames_are_those_of_the_policy_steps_beside_them():
    counted = {"dreamer_policy_steps_total": 80_000, "dreamer_env_frames_total": 320_000}
    report = Report(service="replay", values=counted)
    progress = halfway().advance(report, policy_step=81_000, gradient_step=20_500)
    assert "81.0k policy steps (324k frames" in render_line(progress)


def test_gradient_steps_that_are_all_that_is_left_count():
    report = Report(service="supervisor", values=SPEEDS)
    progress = halfway().advance(report, policy_step=200_000, gradient_step=20_500)
    assert progress.time_left_s == (50_000 - 20_500) / 50


def test_a_run_that_only_trains_has_the_time_left_of_its_gradient_steps():
    start = Progress(
        total_policy_steps=200_000, total_gradient_steps=50_000, is_offline=True, started_s=0.0
    )
    report = Report(service="supervisor", values=SPEEDS)
    progress = start.advance(report, policy_step=100_000, gradient_step=25_000)
    assert progress.policy_steps_per_second is None
    assert progress.time_left_s == 25_000 / 50


def test_nothing_is_known_before_a_speed_is_reported():
    start = Progress(total_policy_steps=10, started_s=0.0)
    one = start.advance(Report(service="learner"), policy_step=5, gradient_step=1)
    assert one.policy_steps_per_second is None
    assert one.time_left_s is None
    assert one.share == 0.5


def test_time_left_is_unknown_while_nothing_moves():
    stalled = Report(service="supervisor", values=dict.fromkeys(SPEEDS, 0.0))
    progress = halfway().advance(stalled, policy_step=82_000, gradient_step=20_500)
    assert progress.policy_steps_per_second == 0.0
    assert progress.time_left_s is None


def test_many_reports_keep_the_state_small():
    progress = Progress(total_policy_steps=10**9, started_s=0.0)
    for i in range(500):
        progress = progress.advance(
            Report(service="collector", episodes=episodes(i)), policy_step=i, gradient_step=i
        )
    assert progress.returns == tuple(range(400, 500))


def test_evaluation_episodes_do_not_enter_the_training_mean():
    report = Report(service="evaluator", episodes=episodes(1000))
    progress = halfway().advance(report, policy_step=82_000, gradient_step=20_500)
    assert progress.returns == (-20, -18)


def test_evaluations_of_old_checkpoints_are_not_shown_as_those_of_now():
    progress = halfway()
    for weights, value in (("latest", 5.0), ("1000", 2.0)):
        report = Report(
            service="evaluator",
            values={"dreamer_evaluation_return": value},
            labels={"mode": "greedy", "weights": weights},
        )
        progress = progress.advance(report, policy_step=82_000, gradient_step=20_500)
    assert progress.values["dreamer_evaluation_return"] == 5.0


def test_the_table_shows_what_matters():
    text = drawn()
    for part in (
        "runs/pong",
        "41% · 82.0k of 200k policy steps",
        "328k",
        "20.5k",
        "200",
        "50",
        "mean of 2",
        "-19",
        "-18",
        "0.00123",
        "3.46",
        "-0.0123",
        "policy lag",
        "1 min 40 s so far, 9 min 50 s left",
        "metrics at http://127.0.0.1:9100/metrics",
    ):
        assert part in text, part


def test_the_table_fits_a_terminal_of_80_columns():
    lines = drawn(width=80).splitlines()
    assert "…" not in drawn(width=80)
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 14


def test_on_a_narrow_terminal_the_table_is_stacked_and_no_number_is_cut():
    lines = drawn(width=48).splitlines()
    assert "…" not in drawn(width=48)
    assert max(len(line) for line in lines) <= 48
    for label, value in (("env frames", "328k"), ("last", "-18"), ("KL, nats", "3.46")):
        (line,) = (line for line in lines if label in line)
        assert line.strip("│ ").endswith(value)


def test_before_the_first_report_it_shows_what_was_there_before():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    past = {"dreamer_evaluation_return": 7.5}
    shown = Display(100, "x", console=console, returns=(1.0, 2.0), values=past)
    text = text_of(render(shown.progress, run_dir="x", metrics_url=None, now_s=0.0))
    assert "mean of 2" in text and "1.5" in text and "7.5" in text


def test_what_other_processes_say_stands_above_the_table_without_their_numbers():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Display(100, "x", console=console) as display:
        display.update(Report(service="learner"), 1, 1)
        sys.stderr.write("\x1b[36m(Learner pid=7)\x1b[0m Gradient steps on CPU\n")
    said = console.file.getvalue()
    assert "Gradient steps on CPU" in said and "pid" not in said


def test_the_table_leaves_out_an_exporter_that_is_off():
    assert "metrics at" not in drawn(url=None)


def test_drawing_an_empty_run_works():
    empty = Progress(total_policy_steps=10, started_s=0.0)
    assert "–" in text_of(render(empty, run_dir="x", metrics_url=None, now_s=0.0))


def test_drawing_is_cheap():
    progress = halfway()
    began_s = time.thread_time()
    for _ in range(10):
        text_of(render(progress, run_dir="x", metrics_url=None, now_s=0.0))
    assert (time.thread_time() - began_s) / 10 < 0.1


def test_a_line_shows_the_same_numbers():
    line = render_line(halfway())
    assert line == (
        " 41%  82.0k policy steps (328k frames, 200/s)  20.5k gradient steps (50/s)  ratio 4"
        "  lag 16  return -18 (mean of 2: -19)  image MSE 0.00123  KL 3.46  9 min 50 s left"
    )


def test_where_the_time_of_collecting_goes_is_shown_once_it_is_known():
    seconds = {
        "dreamer_env_seconds_total": 60.0,
        "dreamer_render_seconds_total": 50.0,
        "dreamer_policy_seconds_total": 40.0,
    }

    def drawn_with(**changes):
        report = Report(service="collector", values=seconds | changes)
        progress = halfway().advance(report, policy_step=82_000, gradient_step=20_500)
        table = text_of(render(progress, run_dir="x", metrics_url=None, now_s=100.0), width=80)
        assert len(table.splitlines()) <= 14
        return table, render_line(progress)

    for text in drawn_with():
        assert "collecting: 60% environment (50% rendering), 40% policy" in text
    for text in drawn_with(dreamer_render_seconds_total=0.0):
        assert "collecting: 60% environment, 40% policy" in text


def test_without_a_terminal_lines_come_at_the_interval_and_at_the_end(no_ticks):
    now_s = [0.0]
    console = Console(file=io.StringIO(), width=40)
    with Display(100, "x", console=console, line_interval_s=10, clock_s=lambda: now_s[0]) as shown:
        for now_s[0] in (1.0, 5.0, 12.0, 15.0):
            shown.update(Report(service="learner"), policy_step=int(now_s[0]), gradient_step=0)

    lines = console.file.getvalue().splitlines()
    assert [line.split("%")[0].split()[-1] for line in lines] == ["1", "12", "15"]


def test_nothing_is_silent_for_longer_than_the_interval():
    now_s = [0.0]
    console = Console(file=io.StringIO(), width=40)
    shown = Display(100, "x", console=console, line_interval_s=9, clock_s=lambda: now_s[0])
    said, length = {}, 0
    for second in range(60):
        now_s[0] = float(second)
        if second == 2:
            shown.heard("Starting Ray")
        if 30 <= second <= 40:
            shown.update(Report(service="learner"), policy_step=second, gradient_step=0)
        shown.tick()
        text = console.file.getvalue()
        if len(text) > length:
            said[second] = text[length:].split(" INFO ")[1].strip()
        length = len(text)
    assert list(said) == [11, 20, 29, 30, 39, 48, 57]
    waited = [f"Starting Ray: {seconds} s so far" for seconds in (9, 18, 27)]
    assert [said[second] for second in (11, 20, 29)] == waited
    assert said[39].startswith("39%") and said[39].endswith(" left")
    assert said[57].startswith("40%") and said[57].endswith("(nothing new for 17 s)")


def test_a_terminal_without_a_table_yet_says_what_it_waits_for(no_ticks):
    now_s = [0.0]
    terminal = {"force_terminal": True, "_environ": {"TERM": "xterm"}}
    console = Console(file=io.StringIO(), width=110, **terminal)
    with Display(100, "x", console=console, clock_s=lambda: now_s[0]) as shown:
        shown.heard("Starting Ray")
        now_s[0] = 9.0
        shown.tick()
        assert console.file.getvalue().strip() == "Starting Ray: 9 s so far"
        shown.update(Report(service="learner"), policy_step=1, gradient_step=0)
        now_s[0] = 100.0
        shown.tick()
    assert "so far" in console.file.getvalue() and "100 s" not in console.file.getvalue()


def test_a_terminal_gets_a_table_that_is_redrawn():
    console = Console(
        file=io.StringIO(), width=110, force_terminal=True, _environ={"TERM": "xterm"}
    )
    with Display(200_000, "runs/pong", console=console) as shown:
        report = Report(service="collector", values=VALUES, episodes=episodes(-20))
        shown.update(report, policy_step=82_000, gradient_step=20_500)
        time.sleep(0.6)
        shown.console.print("a word for the log")
    text = console.file.getvalue()
    assert "82.0k of 200k" in text
    assert "a word for the log" in text
    assert shown.progress.policy_step == 82_000


def test_a_dumb_terminal_gets_lines():
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    with Display(100, "x", console=console) as shown:
        shown.update(Report(service="learner"), policy_step=1, gradient_step=0)
    assert "policy steps" in console.file.getvalue()
    assert "╭" not in console.file.getvalue()
