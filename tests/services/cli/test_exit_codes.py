"""Whose fault it is: 2 what was asked for, 1 something outside, 70 this program; never another."""

import shutil
from pathlib import Path

import pytest

from services.cluster.connection import NoCluster
from tests.commands import PIXELS, SMALL, plain

LOCAL = ("local", "debug", *SMALL, "--run-dir", "run")
TRAIN = ("train", "debug", *SMALL, "--run-dir", "run", "--metrics.port", "0")
EVAL = ("eval", "run")
ON_A_RUN = (LOCAL, TRAIN, EVAL)
REPLAY = (
    ("replay", "inspect", "run"),
    ("replay", "verify", "run"),
    ("replay", "export", "run", "--to", "exported"),
)


def replace_by_directory(name):
    """Something else lies where the run has a file."""

    def arrange(run_dir):
        (run_dir / name).unlink(missing_ok=True)
        (run_dir / name).mkdir()

    return arrange


def replace_by_file(name):
    def arrange(run_dir):
        shutil.rmtree(run_dir / name)
        (run_dir / name).write_text("")

    return arrange


def append_to_the_log(run_dir):
    with (run_dir / "metrics.jsonl").open("a") as log:
        log.write("{}\n")


def nothing(_run_dir):
    pass


BAD_INPUT = [
    # what the user's files are
    (replace_by_directory("config.json"), ("status", "run"), "holds no config.json"),
    (replace_by_directory("run.lock"), ("status", "run"), "see who trains in run, but Is a dir"),
    (replace_by_directory("run.lock"), ("stop", "run"), "see who holds run, but Is a dir"),
    (replace_by_directory("run.lock"), LOCAL, "/run, but Is a directory. Choose another place"),
    (replace_by_directory("metrics.jsonl"), ("status", "run"), "metrics.jsonl, but Is a directory"),
    (replace_by_directory("metrics.jsonl"), LOCAL, "/run, but Is a directory. Make room"),
    (replace_by_file("tensorboard"), LOCAL, "/run, but File exists. Make room"),
    (replace_by_directory("supervisor.log"), ("logs", "run"), "supervisor.log, but Is a directory"),
    (replace_by_directory("supervisor.log"), TRAIN, "supervisor.log, but Is a directory"),
    (append_to_the_log, ("status", "run"), "metrics.jsonl:"),
    (
        replace_by_directory("replay/00000000.segment"),
        ("replay", "verify", "run"),
        "read the replay in run/replay, but Is a directory",
    ),
    *((replace_by_file("checkpoints"), words, "/checkpoints: Not a") for words in ON_A_RUN),
    *((replace_by_file("replay"), words, "/replay: File exists") for words in (LOCAL, TRAIN)),
    *((replace_by_file("replay"), words, "run/replay") for words in REPLAY),
    *(
        (replace_by_file(""), words, "/run, but File exists. Choose another place")
        for words in (LOCAL, TRAIN)
    ),
    *((replace_by_file(""), words, "run holds no config") for words in (EVAL, *REPLAY)),
    *(
        (nothing, (*words[:-1], "run/run.lock/new"), "run.lock/new, but Not a directory")
        for words in (LOCAL, (*TRAIN[:-4], "--metrics.port", "0", "--run-dir", ""))
    ),
    *(
        (nothing, (*words[:-1], "run/run.lock/new"), "run/run.lock/new holds no config")
        for words in (EVAL, *REPLAY[:2])
    ),
    # where the user wants something to be written
    (nothing, ("eval", "run", "--episodes", "1", "--video", "run/run.lock/x.gif"), "Name another"),
    (nothing, ("eval", "run", "--episodes", "1", "--video", "no/x.mp4"), "/no/x.mp4, but"),
    (nothing, ("bench", "env", "--json", "run/run.lock/x.json"), "Name a file with --json"),
    (nothing, ("replay", "export", "run", "--to", "run/run.lock/x"), "Not a directory"),
    (nothing, ("sweep", "debug", "--sweep-dir", "run/run.lock/x"), "--sweep-dir"),
    (nothing, (*TRAIN, "--metrics.address", "256.0.0.1"), "an address of this machine"),
    # what third parties refuse
    (nothing, (*TRAIN, "--runtime.object-store-bytes", "9" * 18), "start Ray on this machine, but"),
    (nothing, (*LOCAL[:-1], "new", "--checkpoint.url", "http://["), "Invalid IPv6 URL"),
    (nothing, (*LOCAL[:-1], "new", "--checkpoint.url", "zip://x"), "Wanted to open zip://x, but"),
    (nothing, ("local", "debug", *PIXELS[:2], "--env.task", "x y:z"), "package.module:make_env"),
    # numbers that no machine takes
    (
        nothing,
        (*LOCAL, "--learner.num-threads", "100000"),
        "num_threads=100000 must be 1024",
    ),
    (nothing, (*LOCAL, "--world-model.deter", "9" * 30), "must be below"),
    (nothing, (*TRAIN, "--runtime.call-timeout-s", "1e300"), "call_timeout_s=1e+300 must be"),
]


@pytest.mark.parametrize(("arrange", "words", "part"), BAD_INPUT)
def test_bad_input_is_told_in_one_paragraph(dreamer, copied, arrange, words, part):
    arrange(copied)
    code, stdout, stderr = dreamer(*words)
    assert code == 2, stdout + stderr
    assert part in plain(stderr) and "Traceback" not in stdout + stderr
    assert "\n\n" not in stderr.strip()


def full(name):
    """A file to which nothing can be written, since its disk is full."""

    def arrange(run_dir):
        (run_dir.parent / name).symlink_to("/dev/full")

    return arrange


FAILED = [
    (full("x.gif"), ("eval", "run", "--episodes", "1", "--video", "x.gif"), "No space left"),
    (full("x.mp4"), ("eval", "run", "--episodes", "1", "--video", "x.mp4"), "No space left"),
    (full("x.json"), ("bench", "env", "--seconds", "0.1", "--json", "x.json"), "No space left"),
    (nothing, ("status", "run", "--on", "http://127.0.0.1:1"), "ssh tunnel"),
    (nothing, ("attach", "run"), "Wanted a running run to attach to"),
    (
        nothing,
        ("attach", "run", "--ray-address", "127.0.0.1:1"),
        "join the Ray cluster at 127.0.0.1:1",
    ),
    (nothing, (*LOCAL[:-1], "new", "--checkpoint.url", "http://127.0.0.1:1/x"), "checkpoint.url"),
    (
        nothing,
        (*LOCAL[:-1], "new", "--world-model.deter", "100000000"),
        "There is too little memory",
    ),
    (
        nothing,
        ("local", "debug", *SMALL, "--env.task", "tests.services.failing_env:make_broken_env"),
        "raised RuntimeError during step: the simulator's licence ran out",
    ),
    (
        nothing,
        (*LOCAL[:-1], "new", "--world-model.optimizer.learning-rate", "1e300"),
        "is not finite",
    ),
]


@pytest.mark.parametrize(("arrange", "words", "part"), FAILED)
def test_a_failure_is_told_in_one_paragraph(dreamer, copied, arrange, words, part):
    arrange(copied)
    code, stdout, stderr = dreamer(*words)
    assert code == 1, stdout + stderr
    assert part in plain(stderr) and "Traceback" not in stdout + stderr
    assert "\n\n" not in stderr.strip()


BUGS = [
    ValueError("shapes differ"),
    OSError(9, "Bad file descriptor"),
    KeyError("image"),
    RuntimeError("dictionary changed size during iteration"),
]


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize(
    "place",
    [
        (("status", "run"), "services.terminal.status.format_number"),
        (("eval", "run"), "dreamer_core.run.evaluation.evaluate_episode"),
        (("replay", "inspect", "run"), "services.cli.replay._tell"),
        ((*LOCAL[:-1], "new"), "dreamer_core.run.trainer.Trainer.train"),
    ],
)
def test_a_bug_shows_its_trace_whatever_its_type(dreamer, copied, monkeypatch, place, bug):
    def fail(*_args, **_options):
        raise bug

    words, where = place
    monkeypatch.setattr(where, fail)
    code, stdout, stderr = dreamer(*words)
    assert code == 70, stdout + stderr
    assert "Traceback" in stderr and type(bug).__name__ in stderr and "in fail" in stderr
    assert "This is a bug in dreamer" in plain(stderr)


def test_a_bug_in_a_run_is_logged_with_its_trace(dreamer, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise ValueError("shapes differ")

    monkeypatch.setattr("services.runtime.run.ray_cluster", fail)
    assert dreamer(*TRAIN)[0] == 70
    log = (tmp_path / "run" / "supervisor.log").read_text()
    assert "supervisor ERROR Stopped by a bug in dreamer\nTraceback" in log
    assert log.rstrip().endswith("ValueError: shapes differ")


def test_what_stops_a_run_is_logged_in_a_line(dreamer, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise NoCluster("Wanted to start Ray, but there is no room")

    monkeypatch.setattr("services.runtime.run.ray_cluster", fail)
    assert dreamer(*TRAIN)[0] == 1
    log = (tmp_path / "run" / "supervisor.log").read_text()
    assert "supervisor ERROR Stopped: Wanted to start Ray, but there is no room" in log
    assert "Traceback" not in log


def test_a_directory_that_was_deleted_under_the_command_is_told(dreamer, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, _, stderr = dreamer("presets")
    monkeypatch.chdir(Path(__file__).parent)
    assert code == 2 and "Change to one that is there" in plain(stderr)
