"""Evaluators of another job beside a real run: they come and go, and training does not notice."""

import os
import subprocess
from collections import defaultdict

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.report.report import read_jsonl
from services.runtime import attach as attach_module
from services.runtime.attach import AttachCommand, NotRunning
from tests.runs import CATCH, DREAMER, NO_EVALUATION, OFTEN, ROOT, Run, restarts

KEEP = ("--checkpoint.keep-every", "1")


def attach(run_dir, *options):
    return subprocess.Popen(
        [DREAMER, "attach", run_dir, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluations(run_dir):
    lines = read_jsonl(run_dir / "metrics.jsonl")
    return [line for line in lines if "dreamer_evaluation_return" in line.values]


@pytest.fixture(scope="module")
def attached(tmp_path_factory):
    """A run, a job of two evaluators that finished, one that outlived the run, samples, a film.

    One more was killed.
    """
    run_dir = tmp_path_factory.mktemp("attached") / "run"
    run = Run("train", run_dir, *CATCH, *OFTEN, *NO_EVALUATION, *KEEP, "--steps", "100000")
    run.wait_for("dreamer_gradient_steps_total", least=5)
    finished = attach(run_dir, "--evaluators", "2", "--episodes", "4", "--mode", "sample")
    finished.output = finished.communicate(timeout=90)
    (step, *_) = sorted(int(path.parent.name) for path in run_dir.glob("checkpoints/*/*.json"))
    filmed = attach(run_dir, "--weights", str(step), "--episodes", "1", "--video")
    filmed.output, filmed.step = filmed.communicate(timeout=90), step
    killed = attach(run_dir, "--forever")
    killed.stdout.readline()
    killed.kill()
    killed.wait()
    run.kill("ray::Exchange")
    run.wait_for("dreamer_restarts_total", "exchange")
    left_over = attach(run_dir, "--forever")
    left_over.stdout.readline()
    run.wait_until(lambda: len(evaluations(run_dir)) >= 6)
    samples = run.scrape()
    run.terminate()
    assert run.finish() == 143, run.stderr
    left_over.output = left_over.communicate(timeout=90)
    return run, finished, left_over, samples, filmed


def test_the_episodes_asked_for_are_played_and_shown(attached):
    _, finished, *_ = attached
    stdout, stderr = finished.output
    assert finished.returncode == 0, stderr
    shown = [line for line in stdout.splitlines() if line.startswith("return ")]
    assert len(shown) == 4 and all("weights of gradient step" in line for line in shown)


def test_the_results_are_in_the_run(attached):
    run, _, _, samples, _ = attached
    found = evaluations(run.run_dir)
    assert {line.labels["mode"] for line in found[:4]} == {"sample"}
    assert all(line.labels["weights_version"] >= 0 and len(line.episodes) == 1 for line in found)
    assert {"sample", "greedy"} <= {
        key[1] for key in samples if key[0] == "dreamer_evaluation_return"
    }


def test_weights_of_a_checkpoint_are_played_and_filmed(attached):
    run, _, _, samples, filmed = attached
    stdout, stderr = filmed.output
    assert filmed.returncode == 0, stderr
    assert f"weights of gradient step {filmed.step:,}" in stdout
    assert samples["dreamer_evaluation_gradient_steps", "greedy", str(filmed.step)] == filmed.step
    (video,) = (run.run_dir / "videos").iterdir()
    assert video.name.startswith(f"{filmed.step:012d}-greedy-") and video.suffix == ".mp4"
    assert video.read_bytes()[4:8] == b"ftyp"


def test_a_checkpoint_that_is_not_there_is_named(attached):
    job = attach(attached[0].run_dir, "--weights", "7" * 9)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode != 0 and "Traceback" not in stderr


def test_training_notices_neither_jobs_that_are_killed_nor_a_killed_exchange(attached):
    run, *_ = attached
    assert restarts(run.run_dir) == {"exchange": 1}
    errors = [
        x for x in read_jsonl(run.run_dir / "metrics.jsonl") if "dreamer_errors_total" in x.values
    ]
    assert {line.labels["service"] for line in errors} == {"exchange"}


def test_a_job_whose_run_ends_says_so(attached):
    left_over = attached[2]
    assert left_over.returncode == 1
    words = " ".join(left_over.output[1].split())
    assert "has ended" in words and "Traceback" not in words


def test_there_is_nothing_to_attach_to_once_a_run_has_ended(attached):
    job = attach(attached[0].run_dir)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "nobody trains in" in " ".join(stderr.split()) and "dreamer eval" in stderr


def test_signals_end_jobs_that_would_play_for_ever(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", "100000")
    run.wait_for("dreamer_gradient_steps_total", least=5)
    jobs = {number: attach(tmp_path / "run", "--forever") for number in (2, 15)}
    for number, job in jobs.items():
        job.stdout.readline()
        os.kill(job.pid, number)
    for number, job in jobs.items():
        job.communicate(timeout=30)
        assert job.returncode == 128 + number
    run.interrupt()
    assert run.finish() == 130


# An evaluator that fails


def crowd(monkeypatch):
    monkeypatch.setattr("ray.kill", lambda _: None)
    found = attach_module._Crowd(AttachCommand(run_dir=ROOT), lambda *_: None)
    found._num_begun = 100
    found._actors = defaultdict(object)
    return found


def test_an_evaluator_that_cannot_start_ends_the_job_with_its_reason(monkeypatch):
    error = ActorDiedError(RayTaskError("__init__", "ValueError: no such game", ValueError()))
    monkeypatch.setattr(attach_module, "failed_to_start", lambda _: True)
    with pytest.raises(NotRunning, match="An evaluation failed"):
        crowd(monkeypatch)._replace("evaluator-0", error)


def test_evaluators_that_are_killed_again_and_again_end_the_job(monkeypatch):
    players = crowd(monkeypatch)
    for _ in range(5):
        players._actors["evaluator-0"] = object()
        players._replace("evaluator-0", ActorDiedError())
    assert players._num_begun == 95
    with pytest.raises(NotRunning):
        players._replace("evaluator-0", ActorDiedError())


def test_an_environment_that_crashes_once_is_replaced(monkeypatch):
    players = crowd(monkeypatch)
    players._actors["evaluator-0"] = object()
    players._replace("evaluator-0", RayTaskError("play", "", EnvironmentCrashed("it fell")))
    assert players._num_begun == 99


def test_videos_that_could_not_be_written_are_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(attach_module.os, "access", lambda *_: False)  # root may write anywhere
    monkeypatch.setattr(attach_module, "_address", lambda _: None)
    command = AttachCommand(run_dir=tmp_path, video=True)
    with pytest.raises(ValueError, match="cannot be written from here"):
        attach_module.attach(command, on_episode=lambda *_: None, should_stop=lambda: True)
