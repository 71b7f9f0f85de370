"""Named configurations. Each is the paper's `atari` plus a list of changes, each with its source.

`preset(name)` builds the config; `changes(name)` lists what differs from `atari`; `sources()` says
where each of `atari`'s own values comes from. `dreamer presets [NAME]` prints all three.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that a preset changes, and why."""

    path: str
    """Dotted name of the field, as on the command line."""
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Preset:
    """A named list of changes to `atari`."""

    summary: str
    changes: tuple[Change, ...] = ()


_RELEASED = "released code, May 2021"
_SCHEDULED = "App. C; released code, December 2020"
_TINY = "sized for two CPU cores"
_TINY_MODEL = (
    Change("world_model.deter", 128, _TINY),
    Change("world_model.hidden", 128, _TINY),
    Change("world_model.stoch", 16, _TINY),
    Change("world_model.classes", 16, _TINY),
    Change("world_model.conv_depth", 8, _TINY),
    Change("world_model.head_layers", 2, _TINY),
    Change("world_model.head_units", 64, _TINY),
    Change("world_model.optimizer.learning_rate", 1e-3, "a small model takes larger steps"),
    Change("behavior.horizon", 10, _TINY),
    Change("behavior.entropy_scale", 5e-3, "a short run needs to explore from the start"),
    Change("behavior.layers", 2, _TINY),
    Change("behavior.units", 64, _TINY),
    Change("behavior.actor_optimizer.learning_rate", 4e-4, "a small model takes larger steps"),
    Change("behavior.critic_optimizer.learning_rate", 1e-3, "a small model takes larger steps"),
    Change("replay.batch_size", 8, _TINY),
    Change("replay.batch_length", 16, _TINY),
    Change("replay.capacity_steps", 100_000, _TINY),
    Change("schedule.prefill_policy_steps", 1_000, "a short run"),
    Change("schedule.collect_policy_steps", 32, "a short run"),
    Change("schedule.report_interval_gradient_steps", 20, "a short run"),
    Change("checkpoint.interval_s", 60.0, "a short run"),
)
_TWO_CORES = (
    Change("learner.num_threads", 1, "a small model gains more from processes"),
    Change("learner.num_processes", 2, "as many as cores"),
)
_BOXING = "learns fastest in minutes of Boxing"
_KRULL = "measured on Krull: with 0.003 the actor is sure of itself before the model is"
_DEBUG = "seconds, for tests"
_CARTPOLE = "learns to balance the cartpole in an hour or two"
_LARGER_STEPS = "a small model takes larger steps"
_SHORT_MEMORY = "measured on two tasks: with 0.999 a surprise can undo the model"
_MEMORY = "measured on a small task: a cue is remembered after half the gradient steps"
_SMALL_KL = "measured on a small task: with 0.1 the prior hardly learns what moves"
_MANY_ROWS = "measured on two small tasks: with more, as many gradient steps go further"
_WIDER = "measured on a small task: dreams half as wrong at a fifth more of cost"
_REWARDS = "measured on a small task: rewards are known sooner than with 30"
_GOALS = "measured on a small task: goes on learning where 0.005 and 64 units stop"
_NEAR = "measured on a small task: what is near counts for more than the critic's errors"
_LATE_ACTOR = "measured on a small task: an actor that plays sooner spoils what is learned from"
_R22 = "released code, 2022: dmc_vision"
_R22_DEFAULT = "released code, 2022: defaults"
_APP_A = "App. A"
_CONTROL = (
    Change("env.suite", "control", "App. A: DeepMind Control"),
    Change("env.task", "walker_walk", _R22),
    Change("env.action_repeat", 2, _R22),
    Change("env.is_grayscale", False, _R22_DEFAULT),
    Change("env.time_limit_steps", None, "the simulator's own limit of 1,000 steps"),
    Change("world_model.has_discount_head", False, _R22),
    Change("world_model.reward_transform", "identity", _R22),
    Change("behavior.discount", 0.99, _R22_DEFAULT),
    Change("behavior.reinforce_share", 0.0, "App. A"),
    Change("behavior.entropy_scale", 1e-4, _R22),
    Change("replay.is_end_oversampled", False, _R22),
    Change("schedule.prefill_policy_steps", 1_000, _R22),
    Change("schedule.pretrain_gradient_steps", 100, _R22),
    Change("schedule.policy_steps_per_gradient_step", 5, _R22_DEFAULT),
)
_CONTROL_MODEL = (
    Change("world_model.deter", 200, _R22),
    Change("world_model.hidden", 200, _R22),
    Change("world_model.kl_scale", 1.0, _R22_DEFAULT),
    Change("world_model.free_nats", 1.0, _R22),
    Change("world_model.optimizer.learning_rate", 3e-4, _R22),
    Change("behavior.actor_optimizer.learning_rate", 8e-5, _R22),
    Change("behavior.critic_optimizer.learning_rate", 8e-5, _R22),
    Change("replay.batch_size", 16, _R22_DEFAULT),
)

_HUMANOID_UNITS = (
    "world_model.deter",
    "world_model.hidden",
)  # App. D's 600, as the paper names none

PRESETS: dict[str, Preset] = {
    "atari": Preset("The paper's Atari agent: 200M frames, 22M parameters."),
    "atari_release": Preset(
        "The settings of the authors' released code of May 2021.",
        (
            Change("behavior.discount", 0.999, _RELEASED),
            Change("world_model.discount_loss_scale", 5.0, _RELEASED),
            Change(
                "schedule.policy_steps_per_gradient_step",
                16,
                f"{_RELEASED}: `train_every: 16` counts policy steps",
            ),
        ),
    ),
    "atari_schedules": Preset(
        "Table 1's DreamerV2 (schedules): actor gradient mix and entropy change over 10M frames.",
        (
            Change("behavior.reinforce_share", 0.9, f"{_SCHEDULED}: dynamics 0.1"),
            Change("behavior.reinforce_share_end", 1.0, f"{_SCHEDULED}: dynamics 0"),
            Change("behavior.entropy_scale", 3e-3, _SCHEDULED),
            Change("behavior.entropy_scale_end", 3e-4, _SCHEDULED),
            Change("behavior.schedule_policy_steps", 2_500_000, f"{_SCHEDULED}: 10M frames"),
        ),
    ),
    "montezuma": Preset(
        "Montezuma's Revenge with a shorter view ahead (App. B).",
        (
            Change("env.task", "montezuma_revenge", "App. B"),
            Change("behavior.discount", 0.99, "App. B"),
        ),
    ),
    "no_layer_norm": Preset(
        "Ablation: no LayerNorm in the GRU cell (Table 2).",
        (Change("world_model.has_layer_norm", False, "Table 2"),),
    ),
    "no_reward_gradients": Preset(
        "Ablation: rewards do not shape the representation (Table 2).",
        (Change("world_model.has_reward_gradients", False, "Table 2"),),
    ),
    "no_discrete_latents": Preset(
        "Ablation: 32 Gaussian latents instead of 32 categoricals (Table 2).",
        (Change("world_model.latent", "gaussian", "Table 2"),),
    ),
    "no_kl_balancing": Preset(
        "Ablation: the ordinary KL (Table 2).",
        (Change("world_model.kl_balance", 0.5, "Table 2"),),
    ),
    "no_policy_reinforce": Preset(
        "Ablation: straight-through dynamics gradients only (Table 2).",
        (Change("behavior.reinforce_share", 0.0, "Table 2"),),
    ),
    "no_image_gradients": Preset(
        "Ablation: images do not shape the representation (Table 2).",
        (Change("world_model.has_image_gradients", False, "Table 2"),),
    ),
    "atari_tiny": Preset(
        "A small agent that shows progress on two CPU cores within minutes; its reward weight, "
        "epsilon, beta_2, discount and entropy schedule are not the paper's.",
        (
            Change("steps", 10_000, "minutes on two cores"),
            *_TINY_MODEL,
            Change("world_model.optimizer.learning_rate", 3e-3, _BOXING),
            Change("world_model.optimizer.epsilon", 1e-7, _BOXING),
            Change("world_model.optimizer.beta_2", 0.99, _SHORT_MEMORY),
            Change("world_model.reward_loss_scale", 30.0, _BOXING),
            Change("behavior.discount", 0.98, _BOXING),
            Change("behavior.entropy_scale", 0.02, _KRULL),
            Change("behavior.entropy_scale_end", 5e-3, "then exploit"),
            Change("behavior.schedule_policy_steps", 30_000, "then exploit"),
            Change("evaluation.interval_frames", 20_000, "a short run"),
            Change("evaluation.episodes", 5, "a score of ten in two evaluations"),
            Change("evaluation.episode_limit", 5_000, "a greedy agent may stand still for ever"),
            *_TWO_CORES,
        ),
    ),
    "control": Preset(
        "Control from pixels: DeepMind Control as in the authors' 2022 release, 1M frames.",
        (
            *_CONTROL,
            *_CONTROL_MODEL,
            Change("steps", 500_000, "our reading: 1M frames"),
        ),
    ),
    "humanoid": Preset(
        "The humanoid from pixels (App. A).",
        (
            *_CONTROL,
            *(change for change in _CONTROL_MODEL if change.path not in _HUMANOID_UNITS),
            Change("env.task", "humanoid_walk", _APP_A),
            Change("world_model.kl_scale", 2.0, _APP_A),
            Change("behavior.entropy_scale", 1e-5, _APP_A),
            Change("steps", 10_000_000, "our reading: 20M frames"),
        ),
    ),
    "control_tiny": Preset(
        "A small agent for DeepMind Control on two CPU cores.",
        (
            *(c for c in (*_TINY_MODEL, *_CONTROL) if c.path != "behavior.entropy_scale"),
            Change("steps", 50_000, "hours on two cores"),
            Change("env.task", "cartpole_balance", "the task that is learned soonest"),
            Change("world_model.optimizer.learning_rate", 3e-3, _CARTPOLE),
            Change("world_model.optimizer.epsilon", 1e-7, _LARGER_STEPS),
            Change("behavior.discount", 0.97, _CARTPOLE),
            Change("schedule.policy_steps_per_gradient_step", 3, _CARTPOLE),
            Change("evaluation.interval_frames", 10_000, "a short run"),
            Change("evaluation.episodes", 2, "as many as cost little"),
            *_TWO_CORES,
        ),
    ),
    "gymnasium_tiny": Preset(
        "A small agent for a Gymnasium environment of yours: `--env.task package.module:make_env`.",
        (
            Change("env.suite", "gymnasium", "any environment that observes an image or numbers"),
            Change("env.task", "package.module:make_env", "name yours"),
            Change("env.action_repeat", 1, "every decision of the environment counts"),
            Change("env.time_limit_steps", None, "the environment's own limit"),
            Change("steps", 40_000, "ten minutes on two cores"),
            *_TINY_MODEL,
            Change("replay.batch_length", 32, "measured: what is seen 30 steps before is learned"),
            Change("world_model.memory_rows", 32, _MEMORY),
            Change("world_model.optimizer.learning_rate", 2e-3, _LARGER_STEPS),
            Change("world_model.optimizer.beta_2", 0.99, _SHORT_MEMORY),
            Change("world_model.optimizer.epsilon", 1e-7, _LARGER_STEPS),
            Change("world_model.kl_scale", 1.0, _SMALL_KL),
            Change("world_model.reward_loss_scale", 100.0, _REWARDS),
            Change("world_model.deter", 256, _WIDER),
            Change("world_model.hidden", 256, _WIDER),
            Change("world_model.head_units", 128, _GOALS),
            Change("behavior.units", 128, _GOALS),
            Change("behavior.entropy_scale", 0.02, _GOALS),
            Change("behavior.discount", 0.95, _NEAR),
            Change("schedule.policy_steps_per_gradient_step", 16, _MANY_ROWS),
            Change("schedule.prefill_policy_steps", 4_000, _LATE_ACTOR),
            Change("schedule.pretrain_gradient_steps", 250, _LATE_ACTOR),
            Change("evaluation.interval_frames", 5_000, "a short run"),
            Change("evaluation.episodes", 2, "as many as cost little"),
            Change("evaluation.episode_limit", 1_000, "some environments never end an episode"),
            *_TWO_CORES,
        ),
    ),
    "debug": Preset(
        "Seconds from start to end, for tests; learns nothing.",
        (
            Change("steps", 200, _DEBUG),
            *_TINY_MODEL,
            Change("world_model.deter", 16, _DEBUG),
            Change("world_model.hidden", 16, _DEBUG),
            Change("world_model.stoch", 4, _DEBUG),
            Change("world_model.classes", 4, _DEBUG),
            Change("world_model.conv_depth", 2, _DEBUG),
            Change("world_model.head_units", 8, _DEBUG),
            Change("behavior.units", 8, _DEBUG),
            Change("behavior.horizon", 4, _DEBUG),
            Change("replay.batch_size", 3, _DEBUG),
            Change("replay.batch_length", 8, _DEBUG),
            Change("replay.capacity_steps", 4_096, _DEBUG),
            Change("replay.segment_steps", 512, _DEBUG),
            Change("schedule.prefill_policy_steps", 50, _DEBUG),
            Change("schedule.collect_policy_steps", 10, _DEBUG),
            Change("schedule.publish_interval_gradient_steps", 4, _DEBUG),
            Change("schedule.report_interval_gradient_steps", 1, _DEBUG),
            Change("evaluation.interval_frames", None, _DEBUG),
        ),
    ),
}


def preset(name: str) -> Config:
    """Returns the named configuration.

    Raises:
        BadInput: no preset has that name; the closest ones are suggested.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=3)
        known = f"known are {', '.join(PRESETS)}."
        hint = f"did you mean {' or '.join(close)}?" if close else known
        raise BadInput(f"There is no preset {name!r}: {hint} See `dreamer presets`.")
    tree: dict[str, Any] = {"preset": name}
    for change in PRESETS[name].changes:
        *sections, leaf = change.path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = change.value
    return _replaced(Config(), tree)


def changes(name: str) -> dict[str, Change]:
    """Returns what the named preset changes from `atari`, by path; a path's last change wins."""
    return {change.path: change for change in PRESETS[name].changes}


def sources() -> dict[str, str]:
    """Returns where each value of `atari` comes from, by dotted path, as its field says."""
    settings = _settings(Config())
    return {path: item.metadata["source"] for path, item, _ in settings if item.metadata}


def leaves(config: Any) -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every setting, in the order of definition."""
    for path, _, value in _settings(config):
        yield path, value


def differing(config: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Returns (value, the other's) of every setting that is not the same, by dotted path."""
    others = dict(leaves(other))
    return {path: (x, others[path]) for path, x in leaves(config) if x != others[path]}


def _settings(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yields (dotted path, field, value) of every setting, in the order of definition."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", item, value


def _replaced(config: Any, tree: dict[str, Any]) -> Any:
    """Returns the frozen config with the nested values of `tree` put in."""
    values = {
        name: _replaced(getattr(config, name), value) if isinstance(value, dict) else value
        for name, value in tree.items()
    }
    return dataclasses.replace(config, **values)
