"""docker/entrypoint: what ends a run's container, and what has it started again."""

import os
import select
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.runs import ROOT

ENTRYPOINT = ROOT / "docker" / "entrypoint"


@pytest.fixture
def begin(tmp_path):
    """Starts the entrypoint where `dreamer` ends with a code, or waits for SIGTERM."""

    def program(name, lines):
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{lines}\n")
        path.chmod(0o755)

    for name in ("ray", "rm", "touch"):  # nothing of this machine is touched
        program(name, "exit 0")
    program("sleep", 'if [ "$1" = infinity ]; then echo stays; else exec /bin/sleep "$1"; fi')

    started = []

    def start(*words, code, first="true", **variables):
        ends = (
            "trap 'exit 143' TERM\nwhile :; do sleep 0.02; done" if code is None else f"exit {code}"
        )
        program("dreamer", f'echo "asked: $*"\n{first}\n{ends}')
        process = subprocess.Popen(
            ["bash", ENTRYPOINT, *words],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
                "TMPDIR": str(tmp_path),
                **variables,
            },
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a test that failed has left
        process.communicate()


@pytest.fixture
def training(tmp_path):
    """Somebody who trains in a run directory, until told to end."""
    holding = ["flock", tmp_path / "run.lock", "sh", "-c", "echo held; read -r line"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(holding, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        (tmp_path / "cluster.json").touch()
        yield process
        process.stdin.close()


def end(process):
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("code", [0, 1, 70, 143])
def test_a_job_ends_with_the_exit_code_of_the_run(begin, code):
    assert end(begin("job", "atari", code=code))[0] == code


def test_a_job_whose_options_are_refused_is_no_failure_that_is_tried_again(begin):
    code, said = end(begin("job", "atari", "--run-dir", "/runs/x", code=2))
    assert code == 0 and "NOTHING WAS TRAINED" in said
    assert "asked: train atari --run-dir /runs/x" in said


def test_a_job_waits_for_the_run_before_it_to_end(begin, training, tmp_path):
    process = begin("job", "atari", "--run-dir", str(tmp_path), "--steps", "1", code=0)
    assert select.select([process.stdout], [], [], 0.5)[0] == []
    training.stdin.close()
    assert end(process)[1].startswith("asked: train atari")


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("part", ["job", "evaluator", "watch", "learner"])
def test_a_part_that_is_told_to_stop_tells_its_command(begin, tmp_path, part):
    process = begin(part, str(tmp_path), code=None)
    assert process.stdout.readline().startswith("asked")
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143


def test_stop_ends_a_job_and_waits_until_it_has_ended(begin):
    process = begin("job", "atari", code=None)
    assert process.stdout.readline().startswith("asked")
    stopping = begin("stop", code=None)
    assert end(process)[0] == 143
    assert end(stopping)[0] == 0


def test_a_job_that_is_told_to_stop_while_it_starts_its_run_tells_it_too(begin, tmp_path):
    told = tmp_path / "told_to_stop.bash"  # at the moment when the run has just been started
    told.write_text("set -T; trap '[[ $BASH_COMMAND != command=* ]] || kill -TERM $$' DEBUG\n")
    assert end(begin("job", "atari", code=None, BASH_ENV=str(told)))[0] == 143


def test_stop_leaves_what_has_the_number_of_a_job_that_was_killed_alone(begin, tmp_path):
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "dreamer-job").write_text(f"{other.pid}\n")
        assert end(begin("stop", code=None)) == (0, "")
        assert other.poll() is None
        other.kill()
    (tmp_path / "dreamer-job").write_text(f"{other.pid}\n")  # which nothing has now
    assert end(begin("stop", code=None)) == (0, "")


def test_stop_without_a_job_is_at_once(begin):
    assert end(begin("stop", code=None)) == (0, "")


def test_the_job_of_a_sweep_is_one_of_the_cluster_that_is_there(begin):
    _, said = end(begin("sweep", "atari", "--sweep-dir", "/runs/x", code=0))
    assert "asked: sweep atari --sweep-dir /runs/x --ray-address auto --metrics.add" in said


@pytest.mark.parametrize(
    ("part", "code", "is_kept"),
    [
        *(("learner", code, code in (0, 2)) for code in (0, 1, 2, 143)),
        *((part, code, code == 2) for part in ("evaluator", "watch") for code in (0, 1, 2, 143)),
    ],
)
@pytest.mark.usefixtures("training")
def test_a_container_is_kept_where_starting_it_again_would_not_help(
    begin, tmp_path, part, code, is_kept
):
    ended, said = end(begin(part, str(tmp_path), code=code))
    assert ("stays" in said) == is_kept
    assert ended == (0 if is_kept else code)
    assert ("not tried again" in said) == (code == 2)


@pytest.mark.parametrize(
    "meanwhile", ["flock {}/run.lock true", "/bin/rm {}/cluster.json"], ids=["ended", "ends"]
)
def test_an_evaluator_whose_run_ended_meanwhile_waits_for_the_next(
    begin, training, tmp_path, meanwhile
):
    process = begin("evaluator", str(tmp_path), code=2, first=meanwhile.format(tmp_path))
    assert process.stdout.readline() == f"asked: attach {tmp_path}\n"
    if "flock" in meanwhile:
        training.stdin.close()
    ended, said = end(process)
    assert ended == 2 and "stays" not in said


@pytest.mark.usefixtures("training")
def test_an_evaluator_waits_until_the_run_says_where_it_is(begin, tmp_path):
    (tmp_path / "cluster.json").unlink()
    process = begin("evaluator", str(tmp_path), code=0)
    assert process.stdout.readline() == f"Waiting for a run in {tmp_path}\n"
    (tmp_path / "cluster.json").touch()
    assert f"asked: attach {tmp_path}" in end(process)[1]
