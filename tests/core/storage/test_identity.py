"""Is this the same run? Settings that alter the algorithm say no, and so does the environment."""

import dataclasses

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.fields import to_dict
from dreamer_core.presets import preset
from dreamer_core.storage.identity import differing_settings, environment_facts, require_same_run
from tests.core.small import CHOICES, DISCRETE, changed

CONFIG = preset("debug")
FACTS = {"config": to_dict(CONFIG), "environment": environment_facts(DISCRETE)}


def test_a_run_is_the_same_as_itself():
    assert differing_settings(CONFIG, preset("debug")) == ""
    require_same_run(FACTS, "checkpoints/000000000001", CONFIG, DISCRETE)


def test_settings_that_differ_are_named_with_both_values_and_four_are_enough():
    two = changed(CONFIG, {"seed": 1, "behavior.horizon": 7})
    assert set(differing_settings(CONFIG, two).split("; ")) == {
        "seed=0 there, 1 asked for",
        f"behavior.horizon={CONFIG.behavior.horizon} there, 7 asked for",
    }
    text = differing_settings(CONFIG, preset("atari"))
    assert text.count("asked for") == 4 and text.endswith("; ...")


def test_settings_that_may_change_are_not_compared_whatever_they_are_said_to_be():
    wanted = changed(CONFIG, {"steps": 7, "learner.num_threads": 3})
    assert differing_settings(CONFIG, wanted) == ""
    assert "steps=" in differing_settings(CONFIG, wanted, may_change=("learner.",))


def test_a_checkpoint_may_lie_in_another_place_than_its_config_says():
    config = changed(CONFIG, {"checkpoint.url": "s3://bucket/run"})
    require_same_run(FACTS, "s3://bucket/run/000000000001", config, DISCRETE)


def test_a_checkpoint_of_another_environment_is_refused_with_both():
    other = dataclasses.replace(DISCRETE, action_size=4)
    with pytest.raises(BadInput, match=r"'action_size': 4.*here was made for .*'action_size': 3"):
        require_same_run(FACTS, "here", CONFIG, other)


def test_several_choices_are_told_apart_and_one_is_told_as_ever():
    assert environment_facts(DISCRETE).keys() == {"image_shape", "action_size", "is_discrete"}
    facts = {**FACTS, "environment": environment_facts(CHOICES)}
    require_same_run(facts, "here", CONFIG, CHOICES)
    other = dataclasses.replace(CHOICES, action_classes=(3, 2, 2))
    with pytest.raises(BadInput, match=r"\[3, 2, 2\].*here was made for .*\[2, 3, 2\]"):
        require_same_run(facts, "here", CONFIG, other)


def test_a_vector_is_told_where_there_is_one():
    other = dataclasses.replace(DISCRETE, vector_size=5)
    assert environment_facts(other) == {**environment_facts(DISCRETE), "vector_size": 5}
    with pytest.raises(BadInput, match=r"'vector_size': 5.*here was made for"):
        require_same_run(FACTS, "here", CONFIG, other)


@pytest.mark.parametrize("facts", [{}, {"config": None}, {"config": {}}])
def test_a_checkpoint_that_does_not_say_its_settings_is_refused(facts):
    with pytest.raises(BadInput, match="here holds no config that can be read"):
        require_same_run(facts, "here", CONFIG, DISCRETE)
