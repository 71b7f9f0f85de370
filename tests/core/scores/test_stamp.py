"""The protocol stamp of a score, and what two stamps differ in."""

import dataclasses

from dreamer_core.fields import to_dict
from dreamer_core.presets import preset
from dreamer_core.scores.stamp import (
    EVALUATION_EPISODES,
    differences,
    protocol_of,
    unlike_the_paper,
    written_by,
)
from dreamer_core.storage.provenance import Versions

ATARI = to_dict(preset("atari"))


def changed(**sections):
    config = to_dict(preset("atari"))
    for section, values in sections.items():
        config[section] = config.get(section, {}) | values
    return config


def test_the_papers_protocol_as_its_preset_plays_it():
    assert protocol_of(ATARI) == {
        "suite": "atari",
        "sticky_action_probability": 0.25,
        "action_repeat": 4,
        "max_noops": 30,
        "action_set": 18,
        "time_limit_frames": 108_000,
        "episodes_an_evaluation": 1,
        "evaluation_limit_frames": 108_000,
        "preset": "atari",
    }


def test_a_config_of_before_a_setting_is_stamped_with_its_default():
    before = {"preset": "atari", "env": {"task": "pong"}, "evaluation": ATARI["evaluation"]}
    assert protocol_of(before) == protocol_of(ATARI)


def test_a_run_of_before_evaluations_were_set_says_nothing_of_them():
    before = {name: section for name, section in ATARI.items() if name != "evaluation"}
    assert differences([protocol_of(ATARI), protocol_of(before)]) == [
        "episodes_an_evaluation: 1 for 1 run, not recorded for 1 run",
        "evaluation_limit_frames: 108,000 for 1 run, not recorded for 1 run",
    ]


def test_settings_that_differ_from_the_preset_are_named_and_those_of_the_machine_are_not():
    stamp = protocol_of(
        changed(
            behavior={"discount": 0.9},
            learner={"num_threads": 7},
            checkpoint={"interval_s": 1.0},
            env={"task": "boxing", "time_limit_steps": None},
            evaluation={"episodes": 2, "episode_limit": 1000},
        )
        | {"seed": 5, "steps": 7}
    )
    assert {name for name in stamp if "." in name} == {"behavior.discount"}
    assert stamp["behavior.discount"] == 0.9 and stamp["time_limit_frames"] is None
    assert (stamp["episodes_an_evaluation"], stamp["evaluation_limit_frames"]) == (2, 4000)


def test_every_preset_is_stamped_without_a_difference_from_itself():
    for name in ("atari_release", "atari_tiny", "no_kl_balancing"):
        stamp = protocol_of(to_dict(preset(name)))
        assert stamp["preset"] == name and not [each for each in stamp if "." in each]


def test_a_setting_of_another_version_is_named_where_it_is_not_off():
    stamp = protocol_of(changed(world_model={"new": None, "newer": 3}))
    assert stamp["world_model.newer"] == 3 and "world_model.new" not in stamp


def test_a_setting_that_an_older_version_did_not_write_is_the_default_and_not_the_presets():
    config = to_dict(preset("gymnasium_tiny"))
    del config["world_model"]["memory_rows"], config["world_model"]["optimizer"]["beta_2"]
    stamp = protocol_of(config)
    assert stamp["world_model.memory_rows"] is None
    assert stamp["world_model.optimizer.beta_2"] == 0.999


def test_a_preset_that_is_not_known_here_is_stamped_by_its_name():
    config = to_dict(dataclasses.replace(preset("atari"), preset="mine", steps=3))
    assert protocol_of(config)["preset"] == "mine"


def test_stamps_that_are_equal_differ_in_nothing():
    assert differences([protocol_of(ATARI)] * 3) == [] == differences([]) == differences([{}, {}])


def test_each_difference_is_a_line_with_its_values_and_how_many_runs_have_them():
    others = [
        changed(env={"sticky_action_probability": 0.0}),
        changed(env={"sticky_action_probability": 0.0, "time_limit_steps": None}),
        changed(behavior={"discount": 0.9}),
    ]
    lines = differences([protocol_of(each) for each in (ATARI, *others)])
    assert lines == [
        "sticky_action_probability: 0.25 for 2 runs, 0 for 2 runs",
        "time_limit_frames: 108,000 for 3 runs, none for 1 run",
        "behavior.discount: as in its preset for 3 runs, 0.9 for 1 run",
    ]


def test_runs_without_a_stamp_are_counted_beside_others():
    assert differences([protocol_of(ATARI), {}, {}]) == ["the protocol of 2 runs is not known"]


def test_the_program_that_wrote_a_run_last_is_in_its_stamp():
    old, new = ({"version": f"0.{n}.0", "commit": str(n) * 40} for n in (1, 2))
    assert written_by(Versions(1, ())) == {}
    assert written_by(Versions(2, (old,))) == {"version": "0.1.0", "commit": "1" * 12}
    both = written_by(Versions(2, (old, new)))
    assert both == {"version": "0.2.0", "commit": "2" * 12, "programs": 2}
    assert written_by(Versions(2, ({"version": None},)))["commit"] == "unknown"


PAPERS = {"returns": EVALUATION_EPISODES, "mode": "greedy", "evaluation_interval_frames": 100_000}


def test_the_papers_preset_is_played_as_the_paper_plays():
    stamp = {**PAPERS, **protocol_of(to_dict(preset("atari")))}
    assert unlike_the_paper([stamp, {}, {**stamp, "preset": "another", "seed": 3}]) == []


def test_how_a_run_evaluates_is_nothing_to_returns_of_its_training():
    stamp = {**protocol_of(to_dict(preset("atari_tiny"))), "returns": "training episodes"}
    assert unlike_the_paper([stamp]) == [
        "returns training episodes (the paper's: evaluation episodes)"
    ]


def test_what_the_small_agent_does_otherwise_than_the_paper_is_told_with_both_values():
    stamp = {**PAPERS, **protocol_of(to_dict(preset("atari_tiny")))}
    stamp["evaluation_interval_frames"] = 20_000
    assert unlike_the_paper([stamp, {**stamp, "mode": "sample"}]) == [
        "mode sample (the paper's: greedy)",
        "evaluation_interval_frames 20,000 (the paper's: 100,000)",
        "episodes_an_evaluation 5 (the paper's: 1)",
        "evaluation_limit_frames 20,000 (the paper's: 108,000)",
    ]
