"""What a trial sees of an environment, and what is found wrong or risky with it."""

import cv2
import gymnasium
import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import UnknownTask
from dreamer_core.envs.suites import suite_of
from dreamer_core.presets import preset
from dreamer_core.report.contact_sheet import save_contact_sheet
from dreamer_core.run.findings import findings, suggestions
from dreamer_core.run.trial import try_environment
from tests.core.run.odd_envs import Endless

TINY = preset("gymnasium_tiny").env


def tried(name, steps=100, **settings):
    """(config, trial, findings) of an environment of odd_envs.py."""
    values = {"time_limit_steps": None, "action_repeat": 1, **settings}
    config = EnvConfig(suite="gymnasium", task=f"tests.core.run.odd_envs:{name}", **values)
    trial = try_environment(config, steps=steps, is_repeated=name != "Slow")
    return config, trial, findings(config, trial)


def words(found):
    return " | ".join(f"{finding.what} {finding.advice}" for finding in found)


def test_episodes_rewards_and_time_are_as_they_were_played():
    _, trial, found = tried("Odd", steps=110)
    assert trial.num_steps == len(trial.rewards) == 110
    assert trial.lengths == [20] * 5 and trial.num_terminal == 5 and trial.num_unfinished == 10
    assert trial.returns == [sum(trial.rewards[i : i + 20]) for i in range(0, 100, 20)]
    assert trial.brightest == 255 and not trial.is_still
    assert trial.differs_at is None and trial.num_repeated == 110
    assert 0 < trial.seconds["step"] < 5 and trial.steps_per_second > 30
    assert [finding for finding in found if finding.is_wrong] == []


def test_ends_by_a_limit_are_told_from_ends_of_their_own():
    _, trial, _ = tried("Limited")
    assert trial.lengths == [10] * 10 and trial.num_terminal == 0
    _, trial, _ = tried("Endless", time_limit_steps=25)
    assert trial.lengths == [25] * 4 and trial.num_terminal == 0


def test_pictures_are_spread_over_the_trial_from_its_beginning():
    _, trial, _ = tried("Odd", steps=500)
    steps = [picture.step for picture in trial.pictures]
    assert steps[0] == 0 and len(steps) <= 64 and steps == sorted(steps) and steps[-1] > 450
    assert trial.pictures[0].image.shape == (64, 64, 1) and trial.screen.shape == (64, 64, 1)


@pytest.mark.parametrize(
    ("name", "said", "is_wrong"),
    [
        ("Black", "The image is black: no pixel is brighter than 1 of 255", True),
        ("Still", "All that is observed in 100 policy steps is the same", True),
        ("Crashing", "It crashed at policy step 5: tests.core.run.odd_envs:Crashing", True),
        ("Single", "A second one, made after the first was closed, failed: tests", True),
        ("Varying", "Varying made an environment of other sizes than before: EnvSpec", True),
        ("Unclosable", "It failed to close: tests.core.run.odd_envs:Unclosable raised", False),
        ("Idle", "There is one action only", True),
        ("Unseeded", "another episode from policy step 0 on", False),
        ("Endless", "No episode ended within 100 policy steps", False),
        ("Poor", "Random play met no reward in 100 policy steps", False),
        ("Rich", "Rewards reach 250, but the preset's learner predicts tanh(reward)", False),
        ("Short", "Episodes last 2 policy steps", False),
        ("Large", "Numbers of the vector reach 2e+04", False),
        ("Slow", "policy steps a second; a run will wait for it", False),
    ],
)
def test_what_is_wrong_or_risky_is_said_with_its_numbers(name, said, is_wrong):
    _, _, found = tried(name)
    assert said in words(found), words(found)
    assert any(finding.is_wrong for finding in found) == is_wrong


def test_a_few_steps_say_nothing_of_what_they_cannot_show():
    for name in ("Endless", "Poor", "Still", "Unseeded", "Slow"):
        assert tried(name, steps=8)[2] == [], name
    assert "The image is black" in words(tried("Black", steps=8)[2])


def test_settings_are_suggested_that_mend_what_was_found():
    config, trial, _ = tried("Endless")
    assert suggestions(config, trial) == ["--env.time-limit-steps 1000"]
    config, trial, _ = tried("Rich")
    assert suggestions(config, trial) == ["--world-model.reward-transform identity"]
    config, trial, _ = tried("Odd")
    assert suggestions(config, trial) == []


def test_an_environment_that_says_its_limit_is_suggested_no_other_however_short_the_trial_was():
    config, trial, _ = tried("Endless")
    trial.own_limit_steps = 500
    assert "No episode ended" not in words(findings(config, trial))
    assert suggestions(config, trial) == []


def test_the_limit_of_a_registered_id_is_known():
    gymnasium.register("Endless-v0", Endless, max_episode_steps=150)
    try:
        config = EnvConfig(
            suite="gymnasium", task="Endless-v0", action_repeat=2, time_limit_steps=None
        )
        trial = try_environment(config, steps=70)
        assert trial.own_limit_steps == 75 and trial.lengths == []
        trial = try_environment(config, steps=110)
        assert trial.lengths == [75] and suggestions(config, trial) == []
    finally:
        del gymnasium.registry["Endless-v0"]


def test_two_skips_are_a_risk():
    config = EnvConfig(suite="gymnasium", task="ALE/Pong-v5", action_repeat=4)
    trial = try_environment(config, steps=2)
    assert "Each action lasts 16 frames" in words(findings(config, trial))


@pytest.mark.parametrize(
    ("task", "suite"),
    [
        ("pong", "atari"),
        ("MsPacman", "atari"),
        ("walker_walk", "control"),
        ("CartPole-v1", "gymnasium"),
        ("ALE/Pong-v5", "gymnasium"),
        ("my_package.game:make_env", "gymnasium"),
        ("NotInstalled-v7", "gymnasium"),
    ],
)
def test_the_suite_of_a_task_is_told_by_its_name(task, suite):
    assert suite_of(task) == suite


def test_a_name_of_no_suite_is_refused():
    with pytest.raises(UnknownTask, match="say whose it is with --env"):
        suite_of("nosuch")


def test_a_contact_sheet_shows_every_tile(tmp_path):
    path = tmp_path / "sheet.png"
    tiles = [(str(i), np.full((64, 64, 1), 20 * i, np.uint8)) for i in range(10)]
    save_contact_sheet(path, np.full((90, 160, 3), (255, 0, 0), np.uint8), tiles)
    sheet = cv2.imread(str(path))[..., ::-1]
    assert tuple(sheet[50, 50]) == (255, 0, 0)
    for i in range(10):
        assert (sheet == 20 * i).all(-1).sum() >= 128 * 128, i
