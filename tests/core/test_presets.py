"""Presets: every value has a source, and a preset differs from `atari` only where it says so.

The numbers of the tables are written out here, from Appendix D of the paper and from the
released code of May 2021, so that a changed default cannot pass unseen.
"""

import dataclasses

import pytest

from dreamer_core.config import Config
from dreamer_core.presets import PRESETS, changes, differing, leaves, preset, sources

APPENDIX_D = {
    "steps": 50_000_000,
    "env.action_repeat": 4,
    "env.is_grayscale": True,
    "env.sticky_action_probability": 0.25,
    "env.time_limit_steps": 27_000,
    "replay.capacity_steps": 2_000_000,
    "replay.batch_size": 50,
    "replay.batch_length": 50,
    "world_model.latent": "categorical",
    "world_model.stoch": 32,
    "world_model.classes": 32,
    "world_model.deter": 600,
    "world_model.hidden": 600,
    "world_model.kl_scale": 0.1,
    "world_model.kl_balance": 0.8,
    "world_model.free_nats": 0,
    "world_model.reward_transform": "tanh",
    "world_model.has_discount_head": True,
    "world_model.discount_loss_scale": 1,
    "world_model.reward_loss_scale": 1,
    "world_model.head_layers": 4,
    "world_model.head_units": 400,
    "world_model.optimizer.learning_rate": 2e-4,
    "behavior.horizon": 15,
    "behavior.discount": 0.995,
    "behavior.lambda_": 0.95,
    "behavior.reinforce_share": 1,
    "behavior.entropy_scale": 1e-3,
    "behavior.layers": 4,
    "behavior.units": 400,
    "behavior.slow_critic_interval_gradient_steps": 100,
    "behavior.actor_optimizer.learning_rate": 4e-5,
    "behavior.critic_optimizer.learning_rate": 1e-4,
    "schedule.policy_steps_per_gradient_step": 4,
    "schedule.prefill_policy_steps": 50_000,
}
OPTIMIZERS = ("world_model.optimizer", "behavior.actor_optimizer", "behavior.critic_optimizer")
RELEASE = {
    "behavior.discount": 0.999,
    "world_model.discount_loss_scale": 5,
    "schedule.policy_steps_per_gradient_step": 16,
}
DIFFERENCES = {
    "atari": {},
    "atari_release": RELEASE,
    "atari_schedules": {
        "behavior.reinforce_share": 0.9,
        "behavior.reinforce_share_end": 1.0,
        "behavior.entropy_scale": 3e-3,
        "behavior.entropy_scale_end": 3e-4,
    },
    "montezuma": {"env.task": "montezuma_revenge", "behavior.discount": 0.99},
    "no_layer_norm": {"world_model.has_layer_norm": False},
    "no_reward_gradients": {"world_model.has_reward_gradients": False},
    "no_discrete_latents": {"world_model.latent": "gaussian"},
    "no_kl_balancing": {"world_model.kl_balance": 0.5},
    "no_policy_reinforce": {"behavior.reinforce_share": 0.0},
    "no_image_gradients": {"world_model.has_image_gradients": False},
}


def settings(name):
    return dict(leaves(preset(name)))


def differences(name):
    """What the named preset really sets otherwise than `atari`, its own name aside."""
    atari = settings("atari")
    changed = {path: value for path, value in settings(name).items() if value != atari[path]}
    return {path: value for path, value in changed.items() if path != "preset"}


def test_atari_is_the_default_config():
    assert preset("atari") == Config()


@pytest.mark.parametrize(("path", "value"), APPENDIX_D.items())
def test_atari_has_the_values_of_the_papers_table(path, value):
    assert settings("atari")[path] == value


@pytest.mark.parametrize(("path", "value"), (APPENDIX_D | RELEASE).items())
def test_atari_release_has_the_values_of_the_released_code(path, value):
    assert settings("atari_release")[path] == value


@pytest.mark.parametrize("name", ["atari", "atari_release"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_clips_at_100_and_decays_as_released(name, optimizer):
    values = settings(name)
    assert values[f"{optimizer}.clip_norm"] == 100
    assert values[f"{optimizer}.epsilon"] == 1e-5
    assert values[f"{optimizer}.weight_decay"] == 1e-6


def test_each_field_of_a_setting_names_its_source():
    assert set(sources()) == set(settings("atari")) - {"preset"}
    assert all(sources().values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_carries_its_name_and_a_summary(name):
    assert preset(name).preset == name
    assert PRESETS[name].summary.endswith((".", "`."))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_value_that_each_of_its_changes_names(name):
    values = settings(name)
    for path, change in changes(name).items():
        assert values[path] == change.value and change.source, path


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_differs_from_atari_that_is_not_listed_as_a_change(name):
    assert set(differences(name)) <= set(changes(name))


def test_what_differs_between_two_configs_is_named_with_both_values():
    one = preset("atari")
    other = dataclasses.replace(one, seed=3, env=dataclasses.replace(one.env, task="boxing"))
    assert differing(one, one) == {}
    assert differing(one, other) == {"seed": (0, 3), "env.task": ("pong", "boxing")}


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"atari_schedules"}))
def test_each_listed_change_really_differs_from_atari(name):
    assert set(differences(name)) == set(changes(name))


def test_atari_schedules_also_names_the_length_that_is_ataris_unused_default():
    same = set(changes("atari_schedules")) - set(differences("atari_schedules"))
    assert same == {"behavior.schedule_policy_steps"}
    assert settings("atari_schedules")["behavior.schedule_policy_steps"] == 2_500_000


@pytest.mark.parametrize(("name", "expected"), DIFFERENCES.items())
def test_the_papers_variants_differ_from_atari_in_exactly_these_settings(name, expected):
    assert differences(name) == expected


def test_all_six_ablations_of_table_2_are_there():
    assert len([name for name in PRESETS if name.startswith("no_")]) == 6
    assert {name for name in PRESETS if name.startswith("no_")} <= set(DIFFERENCES)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("atari_relase", "atari_release"),
        ("atari_tinny", "atari_tiny"),
        ("no_layernorm", "no_layer"),
    ],
)
def test_an_unknown_preset_is_refused_with_the_closest_names(typed, meant):
    with pytest.raises(ValueError, match=f"no preset '{typed}': did you mean .*{meant}"):
        preset(typed)


def test_a_name_close_to_none_is_refused_with_all_of_them():
    with pytest.raises(ValueError, match="known are atari, ") as caught:
        preset("zzz")
    assert all(name in str(caught.value) for name in PRESETS)
