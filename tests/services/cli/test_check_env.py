"""`dreamer check-env`: what it says of an environment, its picture, its exit code."""

import os
from pathlib import Path

import cv2
import pytest

from tests.commands import plain

ODD = "tests.core.run.odd_envs"


def test_an_environment_is_told_in_plain_words_and_drawn(dreamer, tmp_path):
    code, stdout, stderr = dreamer("check-env", f"{ODD}:Odd", "--steps", "200")
    said = plain(stdout)
    assert code == 0, stderr
    for words in (
        "Odd of suite gymnasium: 200 policy steps at random",
        "observes Box(0, 255, (64, 64, 1), uint8)",
        "agent sees an image of 64 x 64, gray",
        "agent acts one of 3",
        "10 ended, 10 by themselves and 0 by a limit; 20 to 20 policy steps",
        "ms a step",
        "same seed the same in",
        f"Train on it: dreamer train gymnasium_tiny --env.task {ODD}:Odd",
    ):
        assert words in said, said
    picture = tmp_path / "check_tests_core_run_odd_envs_Odd.png"
    assert cv2.imread(str(picture)).shape[1] > 8 * 128


def test_what_is_wrong_ends_with_2_and_still_tells_and_draws(dreamer, tmp_path):
    code, stdout, _ = dreamer("check-env", f"{ODD}:Black", "--to", tmp_path / "black.png")
    assert code == 2 and "wrong: The image is black" in plain(stdout)
    assert "Train on it" not in stdout and (tmp_path / "black.png").exists()


def test_a_crash_is_a_finding(dreamer):
    code, stdout, stderr = dreamer("check-env", f"{ODD}:Crashing")
    assert code == 2 and "wrong: It crashed at policy step 5" in plain(stdout)
    assert "no such key" in plain(stdout) and "Traceback" not in stdout + stderr


def test_settings_tried_and_suggested_are_in_the_command_to_train_with(dreamer):
    options = ("--env.action-repeat", "2", "--env.log-info", "is done,score", "--steps", "120")
    code, stdout, _ = dreamer("check-env", f"{ODD}:Endless", *options)
    line = plain(stdout).partition("Train on it: ")[2]
    assert code == 0 and line.strip() == (
        f"dreamer train gymnasium_tiny --env.task {ODD}:Endless --env.action-repeat 2 "
        "--env.log-info 'is done,score' --env.time-limit-steps 1000"
    )


@pytest.mark.parametrize("what", ["atari", "pong", "atari_tiny"])
def test_a_suite_a_task_or_a_preset_may_be_named(dreamer, what):
    code, stdout, stderr = dreamer("check-env", what, "--steps", "5")
    assert code == 0, stderr
    assert "pong of suite atari" in plain(stdout)
    assert "judged from 100 policy steps on" in plain(stdout)


def test_names_of_nothing_are_refused(refused):
    assert "no game of Atari" in refused("check-env", "nosuch")
    assert "closest: pong" in refused("check-env", "pongg", "--env.suite", "atari")
    assert "but nothing was named first" in refused("check-env")
    assert "wanted 1 or more" in refused("check-env", "pong", "--steps", "0")
    assert "ends in .png" in refused("check-env", "pong", "--to", "sheet.jpg")
    assert "atari, control, gymnasium" in refused("check-env", "pong", "--env.suite", "nosuch")


def test_a_picture_that_cannot_be_written_is_bad_input_with_its_path(dreamer, tmp_path):
    (tmp_path / "taken.png").mkdir()
    for path in (tmp_path / "nowhere" / "sheet.png", tmp_path / "taken.png"):
        code, _, stderr = dreamer("check-env", f"{ODD}:Odd", "--steps", "2", "--to", path)
        assert code == 2 and f"write the picture {path}" in plain(stderr), stderr


def test_one_that_changes_the_working_directory_moves_nothing_that_is_written(dreamer, tmp_path):
    env = ("--env.suite", "gymnasium", "--env.task", f"{ODD}:Wandering")
    small = ("--env.action-repeat", "1", "--env.time-limit-steps", "None", "--steps", "60")
    assert dreamer("check-env", f"{ODD}:Wandering", "--steps", "2", "--to", "a.png")[0] == 0
    assert dreamer("local", "debug", *env, *small, "--run-dir", "run")[0] == 0
    os.chdir(tmp_path)  # in a process of its own the command would have ended here
    code, _, stderr = dreamer("eval", "run", "--episodes", "1", "--video", "a.gif")
    assert code == 0, stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.gif", "run"}
    assert (tmp_path / "run" / "learning_curve.png").exists() and Path.cwd() == tmp_path


@pytest.mark.parametrize("command", ["local", "train"])
def test_a_run_tries_its_environment_before_it_makes_a_directory(dreamer, tmp_path, command):
    run_dir = tmp_path / "run"
    code, _, stderr = dreamer(
        command, "gymnasium_tiny", "--env.task", f"{ODD}:Crashing", "--run-dir", run_dir
    )
    assert code == 1 and "no such key" in plain(stderr) and not run_dir.exists()
