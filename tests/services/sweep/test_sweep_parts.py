"""What a sweep is made of, without a cluster: plan, directory, scores, progress, table."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dreamer_core.envs.base import UnknownTask
from dreamer_core.envs.games import PAPER_GAMES
from dreamer_core.presets import preset
from dreamer_core.report.log import RunLog
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from dreamer_core.types import EpisodeSummary, Report
from services import cli
from services.cli.presets import with_preset
from services.sweep.directory import Score, by_game, open_sweep, read_score
from services.sweep.place import NodeRecord, choose_gpus, has_room, require_room, with_device
from services.sweep.plan import (
    RunKey,
    SweepPlan,
    choose_games,
    local_command,
    refuse_options_of_one_run,
)
from services.sweep.progress import ProgressReader, RunState, SweepProgress
from services.sweep.sweep import SweepCommand
from services.sweep.table import render, render_end, render_line
from services.sweep.worker import Order, SweepWorker, find_reason

DEBUG = preset("debug")
PONG_1 = RunKey("pong", 1)


def plan(*games, seeds=(0, 1), config=DEBUG):
    return SweepPlan(config=config, games=games or ("pong", "boxing"), seeds=seeds)


def text_of(renderable, width=110):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def own_process():
    """Gives back what a command takes over for the rest of its process: log and signals."""
    handlers, level = logging.root.handlers, logging.root.level
    taken = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logging.root.handlers = []
    yield
    logging.root.handlers, logging.root.level = handlers, level
    for number, handler in taken.items():
        signal.signal(number, handler)


# The plan


def test_every_game_is_trained_once_before_any_is_trained_twice():
    assert [str(key) for key in plan().keys] == ["pong 0", "boxing 0", "pong 1", "boxing 1"]


def test_a_run_has_its_game_its_seed_and_its_own_place_for_checkpoints():
    url = replace(DEBUG, checkpoint=replace(DEBUG.checkpoint, url="s3://bucket/sweep/"))
    config = plan(config=url).config_of(PONG_1)
    assert (config.env.task, config.seed) == ("pong", 1)
    assert config.checkpoint.url == "s3://bucket/sweep/pong_1"
    assert plan().config_of(PONG_1).checkpoint.url is None


def test_checkpoints_in_the_memory_of_a_process_are_refused():
    config = replace(DEBUG, checkpoint=replace(DEBUG.checkpoint, url="memory://sweep"))
    with pytest.raises(ValueError, match=r"memory://sweep.*s3://"):
        plan(config=config)


def test_all_are_the_games_of_the_paper_and_none_named_is_the_presets_own():
    assert choose_games("all", DEBUG) == PAPER_GAMES
    assert choose_games(None, preset("montezuma")) == ("montezuma_revenge",)


def test_a_game_spelled_twice_is_one_run_directory():
    assert choose_games("MsPacman, ms_pacman,pong", DEBUG) == ("ms_pacman", "pong")


@pytest.mark.parametrize("games", ["pong,breakoutt", "no.such:env"])
def test_an_unknown_game_is_refused_by_name(games):
    with pytest.raises(UnknownTask, match=games.split(",")[-1]):
        choose_games(games, DEBUG)


def test_all_is_refused_for_what_is_not_atari_and_nothing_for_what_names_nothing():
    other = replace(DEBUG, env=replace(DEBUG.env, suite="gymnasium"))
    with pytest.raises(ValueError, match=r"55 Atari games.*gymnasium"):
        choose_games("all", other)
    with pytest.raises(ValueError, match="names no game"):
        choose_games(" , ", DEBUG)


def test_environments_that_would_share_a_directory_are_refused():
    with pytest.raises(ValueError, match="share a run directory"):
        plan("catch.fast:make", "catch_fast:make")


@pytest.mark.parametrize("option", ["--env.task", "--seed", "--run-dir"])
def test_options_of_one_run_are_refused_with_what_to_write_instead(option):
    for arguments in ([option, "3"], [f"{option}=3"]):
        with pytest.raises(ValueError, match=rf"{option} cannot be set for a sweep.*name"):
            refuse_options_of_one_run(["debug", *arguments])


@pytest.mark.parametrize("name", ["atari", "atari_tiny", "montezuma", "gymnasium_tiny"])
def test_the_command_of_a_run_gives_exactly_its_config(name):
    config = replace(preset(name), seed=3, steps=77)
    config = replace(
        config,
        env=replace(config.env, time_limit_steps=None, is_grayscale=False, task="a.b:make"),
        behavior=replace(config.behavior, lambda_=0.9, entropy_scale_end=1e-05),
        world_model=replace(config.world_model, has_layer_norm=False),
        learner=replace(config.learner, device="cuda"),
    )
    _, *arguments = local_command(config, Path("/sweep/a b_3"))
    parsed = with_preset(cli.LocalCommand, arguments, "dreamer local PRESET")
    assert parsed.config == config
    assert parsed.run_dir == Path("/sweep/a b_3")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seeds": 0}, "--seeds 0"),
        ({"first_seed": -1}, "--first-seed -1"),
        ({"runs_at_once": 0}, "--runs-at-once 0"),
        ({"retries": -1}, "--retries -1"),
        ({"cpus_per_run": 0.0}, "--cpus-per-run 0"),
        ({"gpus_per_run": 2.0}, "--gpus-per-run 2"),
        ({"wait_for_nodes": True}, "say --gpus-per-run, 0 for none"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SweepCommand(config=DEBUG, **values)


def test_a_sweep_may_wait_for_nodes_once_it_says_what_its_runs_train_on():
    on_cpu = replace(DEBUG, learner=replace(DEBUG.learner, device="cpu"))
    assert SweepCommand(config=on_cpu, wait_for_nodes=True).gpus_per_run is None
    assert SweepCommand(config=DEBUG, wait_for_nodes=True, gpus_per_run=0).gpus_per_run == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--games", "pong,breakoutt"], "breakoutt"),
        (["--games", "pong", "--env.task", "boxing"], "name them with --games"),
        (["--games", "pong", "--behavior.horizon", "7"], "behavior.horizon=4 there, 7 asked for"),
    ],
)
@pytest.mark.usefixtures("own_process")
def test_a_sweep_that_cannot_be_is_refused_before_ray_starts(tmp_path, capsys, options, words):
    with open_sweep(tmp_path, plan("pong")) as directory:
        before = directory.marker.read_text()
    with pytest.raises(SystemExit) as caught:
        cli.main(["sweep", "debug", "--sweep-dir", str(tmp_path), *options])
    assert caught.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert directory.marker.read_text() == before


# What a run takes of a node


def node(*, is_alive=True, name="box", **resources):
    return {"NodeID": name, "NodeManagerHostname": name, "Alive": is_alive, "Resources": resources}


def test_runs_get_a_gpu_if_the_cluster_has_any_and_nobody_asked_for_less(caplog):
    with_gpu = [node(CPU=8.0), node(CPU=8.0, GPU=2.0)]
    assert choose_gpus(None, "auto", with_gpu) == 1
    assert choose_gpus(None, "cpu", with_gpu) == 0
    assert choose_gpus(0.25, "auto", with_gpu) == 0.25
    assert not caplog.records
    assert choose_gpus(None, "auto", [node(CPU=8.0), node(is_alive=False, GPU=1.0)]) == 0
    assert "--gpus-per-run" in caplog.text


def test_no_run_takes_a_gpu_that_it_was_not_given_or_does_without_one_that_it_was(caplog):
    def device(name, num_gpus):
        config = replace(DEBUG, learner=replace(DEBUG.learner, device=name))
        return with_device(config, num_gpus).learner.device

    assert device("auto", 0.25) == "cuda"
    assert device("auto", 0) == device("cpu", 0) == "cpu"
    with pytest.raises(ValueError, match=r"learner.device=cuda.*--gpus-per-run"):
        device("cuda", 0)
    with caplog.at_level(logging.WARNING):
        assert device("cpu", 0.5) == "cpu"
    assert "does not use" in caplog.text


def test_runs_that_no_node_could_hold_are_refused_with_what_there_is():
    nodes = [node(name="small", CPU=2.0), node(name="large", CPU=1.0, GPU=1.0)]
    assert has_room(nodes, num_cpus=1, num_gpus=1)
    with pytest.raises(ValueError, match=r"2 CPUs and 1 GPUs.*small 2.*large 1.*--wait-for-nodes"):
        require_room(nodes, num_cpus=2, num_gpus=1)


def test_a_run_goes_back_to_where_it_failed_when_no_other_node_is_left():
    record = NodeRecord(num_cpus=1, num_gpus=1)
    first, second = node(name="a", CPU=1.0, GPU=1.0), node(name="b", CPU=1.0, GPU=1.0)
    small = node(name="small", CPU=1.0)
    record.add_failure(PONG_1, "a", "a", [first, second, small])
    assert record.avoided_by(PONG_1, [first, second, small]) == ("a",)
    assert record.avoided_by(RunKey("pong", 0), [first, second]) == ()
    assert record.avoided_by(PONG_1, [first, {**second, "Alive": False}, small]) == ()
    record.add_failure(PONG_1, "b", "b", [first, second])
    assert record.avoided_by(PONG_1, [first, second]) == ("b",), "the one of its last try"


def test_a_run_that_is_done_clears_its_node_and_a_blind_node_stays_out():
    record, nodes = NodeRecord(num_cpus=1, num_gpus=0), [node(name=n, CPU=1.0) for n in "ab"]
    for seed in range(4):
        record.add_failure(RunKey("pong", seed), "a", "a", nodes)
        if seed == 1:
            record.add_done("a")
    assert record.avoided_by(RunKey("pong", 9), nodes) == ()
    assert record.add_blind("a") and not record.add_blind("a")
    assert record.avoided_by(RunKey("pong", 9), nodes[:1]) == ("a",)
    assert record.has_room(nodes) and not record.has_room(nodes[:1])


# The directory


@pytest.fixture
def log(tmp_path):
    """Writes metrics of a run as the run would."""
    with RunLog(tmp_path / "pong_1", action_repeat=4) as run_log:

        def write(policy_step, *returns, service="collector", **values):
            episodes = tuple(
                EpisodeSummary(policy_step=policy_step + i, episode_return=r, length=1)
                for i, r in enumerate(returns)
            )
            values = {f"dreamer_{name}": value for name, value in values.items()}
            labels = {"mode": "greedy"} if service == "evaluator" else {}
            report = Report(service=service, values=values, episodes=episodes, labels=labels)
            run_log.write(report, policy_step=policy_step, gradient_step=1)

        yield write


def score(key=PONG_1, mean=1.0, steps=200):
    return Score(game=key.game, seed=key.seed, steps=steps, policy_steps=steps,
                 env_frames=4 * steps, mean_return=mean, episodes=3)  # fmt: skip


def make_run(directory, key):
    directory.run_dir(key).mkdir()
    RunPaths(directory.run_dir(key)).config.write_text("{}")


def test_a_score_is_the_mean_of_the_last_100_training_episodes(tmp_path, log):
    log(10, *[1000.0] * 5)
    log(1000, *range(100))
    log(1000, *range(100))  # a resume repeats them
    log(2000, 9999.0, service="evaluator")
    found = read_score(tmp_path / "pong_1", PONG_1, steps=2000)
    assert (found.mean_return, found.episodes) == (sum(range(100)) / 100, 100)
    assert (found.policy_steps, found.env_frames) == (2000, 8000)


def test_a_damaged_line_is_left_out_of_the_score_with_a_warning(tmp_path, log, caplog):
    log(10, 3.0)
    with (tmp_path / "pong_1" / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    log(20, 5.0)
    found = read_score(tmp_path / "pong_1", PONG_1, steps=20)
    assert (found.mean_return, found.episodes) == (4.0, 2)
    assert "leaves out 1 lines" in caplog.text and "metrics.jsonl:2" in caplog.text


def test_a_run_without_an_episode_or_without_metrics_has_no_score(tmp_path, log):
    log(10, policy_steps_per_second=1.0)
    assert read_score(tmp_path / "pong_1", PONG_1, steps=10).mean_return is None
    assert read_score(tmp_path / "none", PONG_1, steps=10).policy_steps == 10


def test_what_is_done_stays_done_and_a_run_that_was_deleted_does_not(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        for seed in (1, 0):
            make_run(directory, RunKey("pong", seed))
            directory.record(score(RunKey("pong", seed), mean=float(seed)))
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        assert [str(key) for key in directory.finished()] == ["pong 0", "pong 1"]
        RunPaths(directory.run_dir(PONG_1)).config.unlink()
        assert [str(key) for key in directory.finished()] == ["pong 0"]
    saved = json.loads((tmp_path / "sweep" / "scores.json").read_text())
    assert saved["games"] == {"pong": {"steps": 200, "seeds": 2, "mean_return": 0.5}}
    assert [run["seed"] for run in saved["runs"]] == [0, 1]


def test_a_game_whose_runs_have_no_score_has_no_mean():
    none = {"steps": 200, "seeds": 0, "mean_return": None}
    assert by_game([score(mean=None)]) == {"pong": none}


def test_only_seeds_that_were_trained_as_long_as_the_longest_are_averaged():
    short, long = score(), score(RunKey("pong", 2), mean=5.0, steps=400)
    assert by_game([short, long]) == {"pong": {"steps": 400, "seeds": 1, "mean_return": 5.0}}


def test_more_games_seeds_and_steps_may_come_later_and_the_id_stays(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        first = directory.sweep_id()
    more = plan("pong", "hero", seeds=(0, 1, 2), config=replace(DEBUG, steps=400))
    with open_sweep(tmp_path / "sweep", more) as directory:
        assert directory.sweep_id() == first
        assert json.loads(directory.marker.read_text())["games"] == ["pong", "hero"]


def test_other_settings_are_refused_with_what_differs_and_nothing_is_changed(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        before = directory.marker.read_text()
    other = replace(DEBUG, behavior=replace(DEBUG.behavior, horizon=7))
    refused = pytest.raises(RunDirectoryError, match=r"behavior.horizon=4 there, 7 asked for")
    with refused, open_sweep(tmp_path / "sweep", plan(config=other)):
        pass
    assert (tmp_path / "sweep" / "sweep.json").read_text() == before


def test_a_second_sweep_on_a_directory_is_refused_with_the_holders_name(tmp_path):
    refused = pytest.raises(RunDirectoryError, match=rf"process {os.getpid()} on .*--sweep-dir")
    with open_sweep(tmp_path, plan()), refused, open_sweep(tmp_path, plan()):
        pass


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match=r"thesis.tex.*--sweep-dir"):
        open_sweep(tmp_path, plan()).__enter__()


@pytest.mark.parametrize("name", ["sweep.json", "scores.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    with open_sweep(tmp_path, plan()) as directory:
        directory.record(score())
    (tmp_path / name).write_text("{")
    with pytest.raises(RunDirectoryError, match=name), open_sweep(tmp_path, plan()) as directory:
        directory.finished()


# Progress


def state(name="pong", seed=0, phase="running", **values):
    return RunState(key=RunKey(name, seed), total_policy_steps=200, phase=phase, **values)


def test_a_sweep_adds_up_its_runs():
    progress = SweepProgress(
        (
            state(phase="done", policy_step=200),
            state(seed=1, policy_step=100, policy_steps_per_second=10.0),
            state(seed=2),
            state(seed=3, phase="waiting"),
            state(seed=4, phase="failed", policy_step=50),
        )
    )
    assert progress.share == 350 / 1000
    assert progress.policy_steps_per_second == 10.0
    assert progress.time_left_s == (100 + 200 + 200) / 10
    assert not progress.is_over and SweepProgress(progress.runs[:1]).is_over


def test_what_a_run_has_written_is_read_from_the_end_of_its_metrics(tmp_path, log):
    reader = ProgressReader(tmp_path / "pong_1")
    log(50, 3.0, 5.0, policy_steps_per_second=20.0)
    log(80, policy_steps_per_second=40.0)
    read = reader.read(state())
    assert (read.policy_step, read.mean_return, read.episodes) == (80, 4.0, 2)
    assert read.policy_steps_per_second == 30.0
    reader.begin()
    assert reader.read(read).policy_steps_per_second is None, "that was before it was resumed"
    log(90, 7.0, policy_steps_per_second=1.0)
    read = reader.read(read)
    assert (read.mean_return, read.policy_steps_per_second) == (5.0, 1.0)


def test_a_run_that_has_written_nothing_or_garbage_is_where_it_was(tmp_path):
    before = state(policy_step=7)
    assert ProgressReader(tmp_path).read(before) == before
    (tmp_path / "metrics.jsonl").write_text("garbage\n")
    assert ProgressReader(tmp_path).read(before) == before


def test_a_damaged_line_is_left_out_of_the_progress_and_told_once(tmp_path, log, caplog):
    log(10, 3.0)
    with (tmp_path / "pong_1" / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    log(20, 5.0)
    reader = ProgressReader(tmp_path / "pong_1")
    assert [reader.read(state()).policy_step for _ in range(3)] == [20] * 3
    assert len(caplog.records) == 1 and "pong 0 leaves out damaged lines" in caplog.text


# The table


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
    done = state("hero", phase="done", mean_return=7.0, policy_step=200)
    over = SweepProgress(
        (done, replace(done, key=RunKey("hero", 1), mean_return=8.0), many().runs[-2])
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


# The worker


def test_the_reason_of_a_failure_is_the_commands_own_or_else_pythons_last_line():
    assert find_reason("10:00 box: dreamer local\n") == ""
    told = "x: dreamer local\nnoise\n\ndreamer: disk full;\nmake room\n\nafter"
    assert find_reason(told) == "disk full; make room"
    assert find_reason("x: dreamer\nTraceback\n  File\nRuntimeError: no\n\n") == "RuntimeError: no"


def order(tmp_path, *arguments, sweep_id="abc"):
    (tmp_path / "sweep.json").write_text(json.dumps({"id": "abc"}))
    return Order(arguments=arguments, run_dir=tmp_path / "run", log=tmp_path / "logs" / "run.log",
                 marker=tmp_path / "sweep.json", sweep_id=sweep_id, cwd=tmp_path)  # fmt: skip


def test_a_worker_takes_bad_input_for_a_failure_and_keeps_what_was_said(tmp_path):
    outcome = SweepWorker().run(order(tmp_path, "local", "debg"))
    assert outcome.ending == "failed" and "There is no preset 'debg'" in outcome.reason
    assert "-m services.cli local debg" in (tmp_path / "logs" / "run.log").read_text()


def test_a_worker_that_sees_another_directory_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("services.sweep.worker._MARKER_PATIENCE_S", 0.3)
    outcome = SweepWorker().run(order(tmp_path, "presets", sweep_id="other"))
    assert outcome.ending == "unseen" and os.uname().nodename in outcome.reason
    assert not (tmp_path / "logs").exists()


def test_a_process_tied_to_another_ends_with_it():
    sleep = (
        f"[sys.executable, '-m', 'services.sweep.tied', str(os.getpid()), {'/bin/sleep'!r}, '60']"
    )
    code = f"import os, subprocess, sys, time; print(subprocess.Popen({sleep}).pid, flush=True)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(60)"], stdout=subprocess.PIPE, text=True
    )
    path = Path(f"/proc/{int(parent.stdout.readline())}")
    wait_for(lambda: b"sleep" in (path / "cmdline").read_bytes().split(b"\0")[0])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not path.exists() or " Z " in (path / "stat").read_text())


def wait_for(condition, timeout_s=10):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
