"""`dreamer scores`: what it prints and writes, and what it refuses."""

import csv
import json
import os
import subprocess
import sys

import pytest

from dreamer_core.scores.table import table_k1
from tests.commands import plain
from tests.core.scores.examples import line, write_run
from tests.runs import ROOT

STEP = 25_000  # policy steps of 100,000 frames


def evaluated(*returns):
    return [line(STEP * (k + 1), value) for k, value in enumerate(returns)]


@pytest.fixture
def column(tmp_path):
    """A CSV file of the table's own column of an agent."""

    def write(agent):
        with (tmp_path / "scores.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("game", "score"))
            rows.writerows((row.title, row.of(agent)) for row in table_k1().values())
        return "scores.csv"

    return write


def rows_of(stdout):
    """The cells of each line of the tables, by the first."""
    return {line.split()[0]: line.split()[1:] for line in stdout.splitlines() if line.strip()}


def test_the_papers_column_gives_the_papers_row(dreamer, column):
    code, stdout, stderr = dreamer("scores", column("dreamerv2"))
    assert (code, stderr) == (0, "")
    for name, value in (
        ("gamer median", "2.146"),
        ("gamer mean", "11.247"),
        ("record mean", "0.438"),
        ("clipped record mean", "0.279"),
    ):
        told = next(plain(each) for each in stdout.splitlines() if each.startswith(name))
        assert told.startswith(f"{name} 55 of 55 {value} – {value} "), told
    assert "No intervals: every game has one seed" in stdout
    assert "Atari-5 estimates a gamer median of 2.030" in stdout and "Missing" not in stdout


def test_runs_are_scored_beside_the_table_and_what_is_missing_is_named(dreamer, tmp_path):
    for seed, returns in enumerate(([90.0, 80.0], [60.0, 70.0])):
        write_run(tmp_path / f"b{seed}", evaluated(*returns), task="boxing", seed=seed)
    code, stdout, _ = dreamer("scores", "b0", "b1", "--json", "scores.json")
    assert code == 0 and plain(stdout).startswith(
        "2 runs of 1 game, at 200k frames, by the last 10 greedy evaluation episodes (there are 2)."
    )
    cells = ["75", "14.1", "2", "200k", "0", "12", "100", "92", "98", "99"]
    assert rows_of(stdout)["boxing"] == cells
    assert "record mean 1 of 55 0.750 0.650 to 0.850 0.920" in plain(stdout)
    assert "Missing games (54): alien, amidar" in plain(stdout)
    told = json.loads((tmp_path / "scores.json").read_text())
    assert [run["score"] for run in told["runs"]] == [85, 65]
    assert told["aggregates"]["record_mean"]["interval"] == [0.65, 0.85]


def test_runs_of_different_protocols_are_a_warning_with_a_line_for_each_difference(
    dreamer, tmp_path
):
    write_run(tmp_path / "a", evaluated(1.0))
    sticky = {"env": {"sticky_action_probability": 0.0, "task": "boxing"}}
    write_run(tmp_path / "b", evaluated(1.0), task="boxing", **sticky)
    _, stdout, _ = dreamer("scores", "a", "b")
    assert "Warning: the runs differ" in stdout
    assert "  sticky_action_probability: 0.25 for 1 run, 0 for 1 run" in stdout.splitlines()


def test_a_run_that_is_not_there_yet_is_named_and_left_out(dreamer, tmp_path):
    write_run(tmp_path / "short", evaluated(1.0))
    write_run(tmp_path / "long", evaluated(1.0, 2.0, 3.0, 4.0), task="boxing")
    code, stdout, _ = dreamer("scores", "short", "long", "--at-frames", "300000")
    assert code == 0 and rows_of(stdout)["boxing"][0] == "2" and "pong" not in rows_of(stdout)
    assert "short: it is not there yet: it has come to 100,000 frames" in plain(stdout)
    assert "episodes up to 300,000 frames" in plain(stdout)


def test_a_config_that_cannot_be_used_is_named_and_the_other_runs_are_reported(dreamer, tmp_path):
    write_run(tmp_path / "bad", evaluated(1.0), seed=[1])
    write_run(tmp_path / "good", evaluated(2.0), task="boxing")
    code, stdout, _ = dreamer("scores", "bad", "good")
    assert code == 0 and rows_of(stdout)["boxing"][0] == "2"
    assert "Left out (1): bad: bad/config.json cannot be used: seed is [1]" in plain(stdout)


def test_evaluations_that_are_not_apart_as_set_are_a_warning(dreamer, tmp_path):
    evaluation = {"interval_frames": 1_000_000, "episodes": 1, "episode_limit": 27_000}
    write_run(tmp_path / "run", evaluated(1.0, 2.0), evaluation=evaluation)
    code, stdout, _ = dreamer("scores", "run")
    told = "Warning: run: its scored evaluations are 100,000 frames apart and not 1,000,000, as"
    assert code == 0 and told in plain(stdout)


def test_training_returns_are_scored_under_their_own_name(dreamer, tmp_path):
    write_run(tmp_path / "run", [line(100, 7.0, service="collector")])
    code, stdout, _ = dreamer("scores", "run", "--returns", "training")
    assert code == 0 and "by the training return, of the last 100 episodes" in plain(stdout)


def test_eighty_columns_hold_every_row_and_a_pipe_gets_eighty(tmp_path, column):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "scores", column("dreamerv2")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = rows_of(done.stdout)
    assert all(len(rows[game]) == 9 for game in table_k1())
    assert max(len(each.rstrip()) for each in done.stdout.splitlines()) <= 80
    assert "…" not in done.stdout and rows["skiing"][0] == "-9.30k"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "Wanted PATH: run directories, sweep directories or CSV files"),
        (("nowhere",), "There is no nowhere; name a run directory"),
        (("empty",), "empty holds neither a run (config.json) nor a sweep"),
        (("run",), "There is nothing to score. run: it has no greedy evaluation episodes"),
        (("run",), "--evaluation.interval-frames"),
        (("run", "--at-frames", "0"), "--at-frames 0: wanted 1 or more"),
        (("x.csv",), "x.csv:2: score is 'x'; wanted a number"),
        (("huge.csv",), "huge.csv:2: score is '1e308'; wanted a number of at most 1e+100"),
        (("x" * 300,), "Name a run directory, a sweep directory or a CSV file"),
        (("bad",), "config.json cannot be used: env.action_repeat is null; wanted a whole number"),
        (("good.csv", "--json", "no/x.json"), "Name a file with --json"),
        (("good.csv", "--column", "other"), "name the column of the scores with --column"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_what_to_do(refused, tmp_path, words, part):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "run", [line(10, 1.0, service="collector")])
    (tmp_path / "x.csv").write_text("game,score\npong,x\n")
    (tmp_path / "huge.csv").write_text("game,score\npong,1e308\npong,1e308\n")
    (tmp_path / "good.csv").write_text("game,score\npong,1\n")
    write_run(tmp_path / "bad", evaluated(1.0), env={"action_repeat": None})
    assert part in refused("scores", *words)


def test_many_runs_that_are_left_out_are_counted(dreamer, tmp_path):
    write_run(tmp_path / "good", evaluated(1.0))
    names = [f"r{k:02d}" for k in range(23)]
    for name in names:
        write_run(tmp_path / name, [], task="boxing")
    code, stdout, _ = dreamer("scores", "good", *names)
    assert code == 0 and "Left out (23):" in stdout and "and 3 more" in stdout
    code, _, stderr = dreamer("scores", *names)
    assert code == 2 and "; and 18 more" in plain(stderr)
