"""Where a sweep stands, told by its directory: for a person, for a program, for Prometheus."""

import json
import re
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dreamer_core.files import take_lock
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from services.sweep.directory import Score, SweepDirectory, open_sweep
from services.sweep.metrics import SWEEP_METRICS, SweepExporter
from services.sweep.plan import RunKey
from services.sweep.progress import SweepProgress
from services.sweep.status import SweepReader, as_json
from services.sweep.table import render_status
from tests.commands import plain
from tests.services.sweep.parts import DEBUG, PONG_1, plan, state, text_of

HEAVY = (
    "numpy",
    "torch",
    "ray",
    "gymnasium",
    "tensorboard",
    "matplotlib",
    "cv2",
    "prometheus_client",
)
STEPS = DEBUG.steps
RUNNING = {"phase": "running", "node": "box", "failures": 1, "reason": "it was sent SIGKILL"}
FAILED = {"phase": "failed", "node": "box", "failures": 3, "reason": "the licence ran out"}
DONE = Score(game="pong", seed=0, steps=STEPS, policy_steps=STEPS, env_frames=4 * STEPS,
             evaluation_return=2.0, evaluation_episodes=3, training_return=1.0,
             training_episodes=4)  # fmt: skip


@pytest.fixture
def running(tmp_path, log):
    """A sweep that its command has running: a run is done, one runs, one failed, one waits."""
    log(50, 3.0, 5.0, policy_steps_per_second=20.0)  # of pong_1
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        (tmp_path / "pong_1").rename(directory.run_dir(PONG_1))
        done = directory.run_dir(RunKey("pong", 0))
        done.mkdir()
        RunPaths(done).config.write_text("{}")
        directory.record(DONE)
        directory.note({"pong_1": RUNNING, "boxing_0": FAILED})
        yield directory


def phases(status):
    return {run.key.name: run.phase for run in status.progress.runs}


def test_it_is_told_without_what_takes_long_to_import():
    ask = "import services.sweep.status, services.sweep.table, sys"
    ask += f"; print([x for x in {HEAVY} if x in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_each_run_of_a_running_sweep_is_where_its_files_say(running):
    status = SweepReader(running.root).read()
    wanted = {"pong_0": "done", "boxing_0": "failed", "pong_1": "running", "boxing_1": "waiting"}
    assert phases(status) == wanted and "process" in status.holder
    told = json.loads(as_json(status))
    assert told["states"] == {"done": 1, "running": 1, "waiting": 1, "failed": 1}
    assert (told["games"], told["games_done"]) == (2, 0)
    assert (told["env_frames"], told["env_frames_per_second"]) == (4 * STEPS + 200, 80.0)
    one = next(run for run in told["runs"] if run["name"] == "pong_1")
    assert (one["policy_step"], one["mean_return"], one["node"]) == (50, 4.0, "box")
    assert (one["failures"], one["reason"]) == (1, "it was sent SIGKILL")


def test_a_person_sees_totals_what_runs_what_failed_and_scores(running):
    text = " ".join(text_of(render_status(SweepReader(running.root).read())).split())
    assert "running: process" in text and "1 done, 1 running, 1 waiting, 1 failed" in text
    assert "80 env frames/s" in text and "failed: the licence ran out" in text
    assert "pong 1 2 2 2" in text  # its evaluations: of one seed, 2


def test_a_sweep_whose_command_was_killed_has_nothing_running(running):
    sweep_dir = running.root.rename(running.root.with_name("killed"))
    (sweep_dir / "sweep.lock").unlink()
    status = SweepReader(sweep_dir).read()
    assert status.holder is None
    wanted = {"pong_0": "done", "boxing_0": "failed", "pong_1": "waiting", "boxing_1": "waiting"}
    assert phases(status) == wanted and status.progress.env_frames_per_second is None
    with take_lock(RunPaths(SweepDirectory(sweep_dir).run_dir(PONG_1)).lock):
        assert phases(SweepReader(sweep_dir).read())["pong_1"] == "running"


def test_a_state_that_cannot_be_read_hides_nothing_else(running):
    running.state.write_text("{")
    assert phases(SweepReader(running.root).read())["pong_0"] == "done"


@pytest.mark.parametrize("content", ["", "{}", '{"games": 3}', "[]"])
def test_a_damaged_sweep_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"sweep.json cannot be read as a sweep"):
        SweepReader(tmp_path).read()


def test_commands_that_are_given_a_sweep_tell_of_it(dreamer, running):
    running.log.write_text("2026-01-01 sweep INFO Started: 4 waiting\n")
    code, told, _ = dreamer("status", running.root, "--json")
    assert code == 0 and json.loads(told)["sweep"] == str(running.root)
    assert dreamer("logs", running.root)[:2] == (0, running.log.read_text())
    (running.root / "sweep.lock").unlink()
    assert dreamer("stop", running.root)[:2] == (0, f"Nobody trains in {running.root}\n")
    running.log.unlink()
    code, _, complaint = dreamer("logs", running.root)
    assert code == 2 and "Wanted the log of a sweep" in plain(complaint)


@pytest.mark.parametrize("command", ["status", "logs", "stop", "watch"])
def test_a_path_that_cannot_be_looked_at_is_refused_in_words(dreamer, command):
    code, _, complaint = dreamer(command, "a" * 300)
    assert code == 2 and "File name too long" in plain(complaint) and "Trace" not in complaint


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    return {(x.name, *x.labels.values()): x.value for f in families for x in f.samples}


def test_prometheus_sees_runs_by_state_games_done_frames_and_failures(tmp_path):
    first = SweepProgress(
        (
            state(phase="done", policy_step=200, frames_per_policy_step=4.0),
            state("boxing", policy_step=50, policy_steps_per_second=10.0, failures=1,
                  frames_per_policy_step=4.0),
        )
    )  # fmt: skip
    info = {"run": "sweeps/debug", "preset": "debug"}
    with SweepExporter(0, "127.0.0.1", info=info, directory=tmp_path) as exporter:
        exporter.observe(first)
        exporter.observe(first)
        seen = scrape(exporter.url)
        failed = state("boxing", phase="failed", failures=3)
        exporter.observe(SweepProgress((first.runs[0], failed)))
        then = scrape(exporter.url)
    values = [seen[name,] for name in SWEEP_METRICS]
    assert values == [2, 1, 250 / 400, 1000, 40]
    assert seen["dreamer_sweep_runs", "running"] == seen["dreamer_sweep_runs", "done"] == 1
    assert seen["dreamer_sweep_failures_total",] == 1
    assert seen["dreamer_sweep_info", "debug", "sweeps/debug"] == 1
    assert then["dreamer_sweep_runs", "failed"] == 1 and then["dreamer_sweep_failures_total",] == 3
    assert then["dreamer_sweep_env_frames_per_second",] == 0 and seen["dreamer_disk_bytes",] > 0


def test_lines_of_progress_are_objects_where_json_is_asked_for(monkeypatch, capsys, tmp_path):
    from services.sweep.table import SweepDisplay

    monkeypatch.setenv("DREAMER_LOG_FORMAT", "json")
    with SweepDisplay(tmp_path, is_plain=True) as display:
        display.update(SweepProgress((state(policy_step=100), state("boxing", phase="failed"))))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["service"] for line in lines] == ["progress"] * 2
    assert (lines[0]["running"], lines[0]["failed"]) == (1, 1)
    assert re.match(r"\d{4}-\d\d-\d\dT", lines[0]["time"])
