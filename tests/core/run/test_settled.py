"""What the kind of actions decides."""

import pytest

from dreamer_core.presets import preset
from dreamer_core.run.front import check
from dreamer_core.run.settled import settled
from tests.core.small import CONTINUOUS, DISCRETE, changed

ATARI = preset("atari_tiny")


def facts(config):
    return config.behavior.reinforce_share, config.world_model.reward_transform


def test_discrete_actions_change_nothing():
    assert settled(ATARI, DISCRETE) is ATARI


@pytest.mark.parametrize("name", ["atari_tiny", "gymnasium_tiny", "debug"])
def test_continuous_actions_learn_through_the_dynamics_from_rewards_as_they_are(name, caplog):
    caplog.set_level("INFO")
    assert facts(settled(preset(name), CONTINUOUS)) == (0.0, "identity")
    assert "learns through the dynamics" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_another_share_is_taken_as_it_is_given(share):
    config = changed(ATARI, {"behavior.reinforce_share": share})
    assert settled(config, CONTINUOUS) is config


def test_a_run_in_a_continuous_environment_is_trained_so(tmp_path):
    env = {"env.suite": "gymnasium", "env.task": "tests.learning.reach:make_env"}
    config, spec = check(changed(preset("debug"), env), tmp_path)
    assert not spec.is_discrete and facts(config) == (0.0, "identity")
