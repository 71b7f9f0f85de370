"""Config: what would hang or train something else is refused when it is built, with the reason."""

import dataclasses
import json

import pytest

from dreamer_core.config import (
    BehaviorConfig,
    CheckpointConfig,
    Config,
    EnvConfig,
    LearnerConfig,
    OptimizerConfig,
    ReplayConfig,
    ScheduleConfig,
    WorldModelConfig,
)
from dreamer_core.fields import from_dict, to_dict
from dreamer_core.presets import PRESETS, leaves, preset
from tests.core.small import changed

NAN = float("nan")
ABOVE_ZERO = {
    EnvConfig: ("action_repeat", "time_limit_steps"),
    OptimizerConfig: ("learning_rate", "clip_norm", "epsilon"),
    WorldModelConfig: (
        *("deter", "hidden", "stoch", "classes", "conv_depth", "head_layers", "head_units"),
    ),
    BehaviorConfig: (
        *("schedule_policy_steps", "layers", "units", "slow_critic_interval_gradient_steps"),
    ),
    ReplayConfig: ("batch_size", "batch_length", "segment_steps"),
    ScheduleConfig: (
        "policy_steps_per_gradient_step",
        "collect_policy_steps",
        "publish_interval_gradient_steps",
        "report_interval_gradient_steps",
    ),
    CheckpointConfig: ("interval_s", "keep", "keep_every", "request_timeout_s"),
    LearnerConfig: ("num_threads",),
    Config: ("steps",),
}
SHARES = {
    EnvConfig: ("sticky_action_probability",),
    WorldModelConfig: ("kl_balance",),
    BehaviorConfig: ("discount", "lambda_", "reinforce_share"),
}
NOT_NEGATIVE = {
    EnvConfig: ("max_noops",),
    WorldModelConfig: ("kl_scale", "free_nats", "discount_loss_scale", "reward_loss_scale"),
    BehaviorConfig: ("entropy_scale", "entropy_scale_end"),
    ScheduleConfig: ("prefill_policy_steps",),
    Config: ("seed",),
}
NUMBERS = [
    path
    for path, value in [*leaves(Config()), ("behavior.entropy_scale_end", 0.0)]
    if isinstance(value, int | float) and not isinstance(value, bool)
]


def fields_of(table):
    return [pytest.param(cls, name, id=name) for cls, names in table.items() for name in names]


def refusal(cls, **values):
    """The message with which a config refuses these values."""
    if cls is OptimizerConfig:
        values = {"learning_rate": 1e-3} | values
    with pytest.raises(ValueError, match=" ") as caught:
        cls(**values)
    return str(caught.value)


# One field at a time


@pytest.mark.parametrize(("cls", "name"), fields_of(ABOVE_ZERO))
def test_a_size_or_rate_of_zero_is_refused(cls, name):
    assert refusal(cls, **{name: 0}) == f"{name}=0 must be above 0"


@pytest.mark.parametrize(("cls", "name"), fields_of(SHARES))
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(cls, name, value):
    assert refusal(cls, **{name: value}) == f"{name}={value} must lie between 0 and 1"


@pytest.mark.parametrize(("cls", "name"), fields_of(SHARES))
@pytest.mark.parametrize("value", [0, 1])
def test_the_ends_of_a_share_are_allowed(cls, name, value):
    assert getattr(cls(**{name: value}), name) == value


@pytest.mark.parametrize(("cls", "name"), fields_of(NOT_NEGATIVE))
def test_a_negative_scale_or_count_is_refused(cls, name):
    assert refusal(cls, **{name: -1}).startswith(f"{name}=-1 must be 0 or more")


@pytest.mark.parametrize("path", NUMBERS)
def test_no_number_of_the_whole_config_may_be_negative(path):
    name = path.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"{name}=-1 |cannot hold|shorter than"):
        changed(Config(), {path: -1})


@pytest.mark.parametrize(
    "name", ["learning_rate", "clip_norm", "epsilon", "beta_2", "weight_decay"]
)
def test_not_a_number_is_no_optimizer_setting(name):
    assert f"{name}=nan" in refusal(OptimizerConfig, **{name: NAN})


@pytest.mark.parametrize("name", ["beta_2", "weight_decay"])
@pytest.mark.parametrize("value", [-1e-6, 1, 2])
def test_a_decay_that_would_erase_everything_is_refused(name, value):
    message = refusal(OptimizerConfig, **{name: value})
    assert message == f"{name}={value} must be in [0, 1)"


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_scheduled_share_may_not_end_outside_0_to_1(value):
    message = refusal(BehaviorConfig, reinforce_share_end=value)
    assert message == f"reinforce_share_end={value} must be in [0, 1]"


def test_an_empty_task_is_refused_with_what_may_stand_there():
    message = refusal(EnvConfig, task="")
    assert "task is empty" in message and "package.module:make_env" in message


def test_one_imagined_step_is_refused_since_no_action_would_have_a_target():
    message = refusal(BehaviorConfig, horizon=1)
    assert "horizon=1" in message and "actor without a target" in message and "2 or more" in message
    assert BehaviorConfig(horizon=2).horizon == 2


def test_none_switches_a_limit_or_a_schedule_off():
    assert EnvConfig(time_limit_steps=None).time_limit_steps is None
    assert BehaviorConfig(reinforce_share_end=None, entropy_scale_end=None).horizon == 15


# Fields that must fit together


def test_a_replay_that_cannot_hold_one_batch_is_refused_with_both_sizes():
    message = refusal(ReplayConfig, capacity_steps=2_499, segment_steps=100)
    assert "capacity_steps=2499" in message and "50 x 50" in message
    assert "raise it or shrink the batch" in message
    assert ReplayConfig(capacity_steps=2_500, segment_steps=100).batch_size == 50


def test_a_replay_smaller_than_two_segments_is_refused_since_eviction_would_empty_it():
    message = refusal(ReplayConfig, capacity_steps=16_383)
    assert "capacity_steps=16383" in message and "segment_steps=8192" in message
    assert "eviction removes whole segments" in message and "shrink the segments" in message
    assert ReplayConfig(capacity_steps=16_384).segment_steps == 8_192


def test_a_prefill_shorter_than_one_sequence_is_refused_since_no_batch_could_be_drawn():
    message = refusal(Config, schedule=ScheduleConfig(prefill_policy_steps=49))
    assert "prefill_policy_steps=49" in message and "batch_length=50" in message
    assert "no batch could be drawn" in message
    assert Config(schedule=ScheduleConfig(prefill_policy_steps=50)).steps == 50_000_000


# The form of a config


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_comes_back_from_json_as_it_was(name):
    config = preset(name)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_several_names_come_back_from_json_as_they_were():
    env = EnvConfig(suite="gymnasium", log_info=("success", "episode/r"))
    assert from_dict(EnvConfig, json.loads(json.dumps(to_dict(env)))) == env


def test_an_unknown_field_is_refused_with_its_place_and_the_known_ones():
    values = to_dict(Config())
    values["behavior"]["actor_optimizer"]["momentum"] = 0.9
    with pytest.raises(ValueError, match=r"unknown fields \['momentum'\]") as caught:
        from_dict(Config, values)
    message = str(caught.value)
    assert message.startswith("config.behavior.actor_optimizer holds")
    assert "learning_rate" in message


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (WorldModelConfig, "latent", "quantum"),
        (LearnerConfig, "device", "gpu"),
        (EnvConfig, "is_grayscale", "no"),
        (EnvConfig, "task", 7),
        (EnvConfig, "action_repeat", 4.0),
        (EnvConfig, "log_info", ["success"]),
        (EnvConfig, "log_info", ("success", 7)),
        (EnvConfig, "action_repeat", True),
        (BehaviorConfig, "discount", NAN),
        (OptimizerConfig, "learning_rate", float("inf")),
    ],
)
def test_a_value_of_another_type_is_refused(cls, name, value):
    valid = {"learning_rate": 1e-3} if cls is OptimizerConfig else {}
    message = refusal(cls, **{**valid, name: value})
    assert message.startswith(f"{name}={value!r} must be ")


def test_a_setting_that_an_older_version_did_not_have_takes_its_default():
    values = to_dict(Config(seed=7))
    del values["env"]["max_noops"], values["checkpoint"]
    assert from_dict(Config, values) == Config(seed=7)


def test_a_missing_value_without_a_default_is_refused_with_its_place():
    values = to_dict(Config())
    del values["world_model"]["optimizer"]["learning_rate"]
    with pytest.raises(ValueError, match=r"^config\.world_model\.optimizer .*'learning_rate'"):
        from_dict(Config, values)


@pytest.mark.parametrize("damaged", [[], "", None, {}, {"env": []}, {"env": {}}])
def test_what_is_no_config_is_refused(damaged):
    values = {**to_dict(Config()), **damaged} if damaged else damaged
    with pytest.raises(ValueError, match=r"^config"):
        from_dict(Config, values)


def test_a_value_out_of_range_is_refused_on_reading_too():
    values = to_dict(Config())
    values["world_model"]["kl_balance"] = 8
    with pytest.raises(ValueError, match="kl_balance=8 must lie between 0 and 1"):
        from_dict(Config, values)
