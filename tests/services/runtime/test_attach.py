"""Evaluators of another job beside a real run: they come and go, and training does not notice."""

import signal
from collections import defaultdict

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from dreamer_core.envs.base import EnvironmentCrashed, UnknownTask
from dreamer_core.presets import preset
from dreamer_core.report.read import read_jsonl
from dreamer_core.report.report import Report
from services.runtime import attach as attach_module
from services.runtime.attach import AttachCommand, NotRunning
from services.runtime.contact import Contact
from services.workers.exchange import Exchange
from tests.runs import ROOT, checkpoint_counts, restarts
from tests.services.attended import Attended, evaluations


@pytest.fixture(scope="module")
def attended(tmp_path_factory):
    """A run that was attached to, followed and stopped; tests only read what is left."""
    return Attended(tmp_path_factory.mktemp("attended") / "run")


# Beside a run


def test_the_episodes_asked_for_are_played_and_shown(attended):
    stdout, stderr = attended.finished.output
    assert attended.finished.returncode == 0, stderr
    shown = [line for line in stdout.splitlines() if line.startswith("return ")]
    assert len(shown) == 4 and all("weights of gradient step" in line for line in shown)


def test_the_results_are_in_the_run(attended):
    found = evaluations(attended.run.run_dir)
    assert sum(line.labels["mode"] == "sample" for line in found) == 4
    assert all(line.labels["weights_version"] >= 0 and len(line.episodes) == 1 for line in found)
    assert {"sample", "greedy"} <= {
        key[1] for key in attended.samples if key[0] == "dreamer_evaluation_return"
    }


def test_weights_of_a_checkpoint_are_played_and_filmed(attended):
    stdout, stderr = attended.filmed.output
    step = attended.step
    assert attended.filmed.returncode == 0, stderr
    assert f"weights of gradient step {step:,}" in stdout
    assert attended.samples["dreamer_evaluation_gradient_steps", "greedy", str(step)] == step
    (video,) = (attended.run.run_dir / "videos").iterdir()
    assert video.name.startswith(f"{step:012d}-greedy-") and video.suffix == ".mp4"
    assert video.read_bytes()[4:8] == b"ftyp"


def test_a_checkpoint_that_is_not_there_is_named(attended):
    _, stderr = attended.misnamed.output
    assert attended.misnamed.returncode == 2 and "Traceback" not in stderr
    assert "777777777" in stderr


def test_training_notices_neither_jobs_that_are_killed_nor_a_killed_exchange(attended):
    run_dir = attended.run.run_dir
    assert restarts(run_dir) == {"exchange": 1}
    lines = read_jsonl(run_dir / "metrics.jsonl")
    errors = [line for line in lines if "dreamer_errors_total" in line.values]
    assert {line.labels["service"] for line in errors} == {"exchange"}


def test_a_job_whose_run_ends_says_so(attended):
    assert attended.left_over.returncode == 1
    words = " ".join(attended.left_over.output[1].split())
    assert "has ended" in words and "Traceback" not in words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_jobs_that_would_play_for_ever(attended, number):
    job = attended.signalled[number]
    assert job.returncode == 128 + number, job.output


def test_a_stop_waits_until_the_checkpoint_is_written(attended):
    assert (attended.stop_exit_code, attended.exit_code) == (0, 143)
    policy_steps, gradient_steps = checkpoint_counts(attended.run.run_dir)
    assert policy_steps > 50 and gradient_steps >= 5


def test_a_log_is_followed_until_the_run_ends(attended):
    followed, _ = attended.follower.output
    assert "Started at gradient step 0" in followed
    assert "Stopped at gradient step" in followed.splitlines()[-1]


def test_a_log_is_printed_of_a_run_that_has_ended(dreamer, attended):
    code, printed, _ = dreamer("logs", attended.run.run_dir)
    assert code == 0 and "Stopped at gradient step" in printed
    assert "An attached evaluator: mean return" in printed


def test_there_is_nothing_to_stop_where_nobody_trains(dreamer, attended):
    code, said, _ = dreamer("stop", attended.run.run_dir)
    assert code == 0 and "Nobody trains in" in " ".join(said.split())


def test_there_is_nothing_to_attach_to_once_a_run_has_ended(attended, dreamer):
    code, _, stderr = dreamer("attach", attended.run.run_dir)
    assert code == 1
    assert "nobody trains in" in " ".join(stderr.split()) and "dreamer eval" in stderr


# An evaluator that fails


def crowd(monkeypatch):
    monkeypatch.setattr("ray.kill", lambda _: None)
    monkeypatch.setattr(attach_module, "close_all", lambda _: None)
    found = attach_module._Crowd(AttachCommand(run_dir=ROOT), lambda *_: None)
    found._num_begun = 100
    found._actors = defaultdict(object)
    return found


def test_an_evaluator_that_cannot_start_ends_the_job_with_its_reason(monkeypatch):
    words = "Traceback ...\ndreamer_core.envs.base.UnknownTask: no such game"
    error = ActorDiedError(RayTaskError("__init__", words, UnknownTask()))
    with pytest.raises(UnknownTask, match="no such game"):
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


# The way of a report into the run


def left(values):
    return [Report(service="evaluator", values={"dreamer_evaluation_return": v}) for v in values]


def test_an_exchange_keeps_reports_until_the_run_has_noted_them():
    exchange = Exchange(preset("atari_tiny"))
    assert exchange.leave("a", 0, left([1.0, 2.0])) == 0
    assert exchange.leave("a", 0, left([1.0, 2.0, 3.0])) == 0
    assert exchange.leave("b", 0, left([4.0])) == 0
    assert list(exchange.take({})) == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert list(exchange.take({"a": 2})) == [("a", 2), ("b", 0)]
    assert exchange.leave("a", 0, left([1.0, 2.0, 3.0])) == 2
    assert list(exchange.take({"a": 3, "b": 1})) == []


def test_an_exchange_that_is_full_loses_nothing():
    exchange = Exchange(preset("atari_tiny"))
    assert exchange.leave("a", 0, left(range(1200))) == 0
    assert len(exchange.take({})) == 1000
    exchange.take({"a": 1000})
    assert exchange.leave("a", 0, left(range(1200))) == 1000
    assert next(iter(exchange.take({}))) == ("a", 1000)
    assert len(exchange.take({})) == 200


def test_a_run_is_lost_once_it_was_asked_in_vain_for_long_and_not_while_nobody_asks(monkeypatch):
    now_s = 0.0
    monkeypatch.setattr("services.runtime.contact.time.monotonic", lambda: now_s)
    monkeypatch.setattr("services.runtime.contact.time.sleep", lambda _: None)
    contact = Contact()
    now_s = 1000.0  # an episode took so long
    assert not contact.is_lost
    monkeypatch.setattr("services.runtime.contact.ray.get_actor", no_actor)
    assert contact.newest() is None and not contact.is_lost
    now_s = 1029.0
    assert contact.newest() is None and not contact.is_lost
    now_s = 1031.0
    assert contact.newest() is None and contact.is_lost


def no_actor(_name):
    raise ValueError("no such actor")
