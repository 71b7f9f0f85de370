"""`dreamer offline` and what the other commands say of its run directory."""

import pytest

from tests.commands import SMALL, contents, exit_code_of, plain


@pytest.fixture(scope="module")
def offline(finished, tmp_path_factory):
    """The directory of a run that was trained from the finished run's replay; tests only read."""
    run_dir = tmp_path_factory.mktemp("offline") / "run"
    words = ("offline", "debug", *SMALL[:-2], "--steps", 3, "--replay", finished)
    assert exit_code_of(*words, "--run-dir", run_dir) == 0
    return run_dir


def test_status_counts_gradient_steps_and_names_the_replay(dreamer, offline, finished):
    told = plain(dreamer("status", offline)[1])
    assert "gradient steps 3 of 3 (100%)" in told and "policy steps" not in told
    assert "trained from" in told


def test_it_is_played_and_exported_as_other_runs_are(dreamer, offline, tmp_path):
    assert dreamer("eval", offline, "--episodes", 1)[0] == 0
    assert dreamer("export", offline, "--to", tmp_path / "agent")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("logs", "`offline` do not"),
        ("replay inspect", "holds none; name a run that has stored rows"),
        ("attach", "nobody trains in"),
        ("scores", "suite gymnasium"),
    ],
)
def test_what_it_does_not_have_is_told(dreamer, offline, words, told):
    code, stdout, stderr = dreamer(*words.split(), offline)
    assert code in (1, 2) and told in plain(stdout + stderr) and "Traceback" not in stderr


def test_it_says_what_it_did_and_goes_on_with_more_steps(dreamer, offline, finished, tmp_path):
    words = ("offline", "debug", *SMALL[:-2], "--replay", finished, "--run-dir", tmp_path / "run")
    before = contents(finished)
    code, stdout, stderr = dreamer(*words, "--steps", 2)
    assert code == 0, stderr
    assert "2 of 2 gradient steps" in stdout and "Training from 63 rows of 3" in plain(stdout)
    assert "Finished (raise --steps to train on): 2 gradient steps." in stdout
    assert dreamer(*words, "--steps", 4)[0] == 0
    assert contents(finished) == before


def test_replays_are_wanted(refused, tmp_path):
    assert "Wanted --replay DIR..." in refused("offline", "debug", "--run-dir", tmp_path / "x")
    message = refused("offline", "debug", "--replay", tmp_path, "--run-dir", tmp_path / "x")
    assert "holds none" in message
