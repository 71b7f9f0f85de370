"""Every setting of the algorithm. The defaults are the paper's Atari values (preset `atari`).

Sources, named in each field: "App. D" is the table of hyper-parameters in Appendix D of
"Mastering Atari with Discrete World Models", "sec. n" a section of the paper, "released" the
authors' 2020 code where the paper is silent. Names of presets and what they change: presets.py.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def require_types(config: Any) -> None:
    """Raises ValueError for the first field whose value is not of its declared type.

    A `float` takes whole numbers too, but neither NaN nor infinity; a `Literal` its choices.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise ValueError(f"{name}={value!r} must be {wanted}, but is {type(value).__name__}")


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, choice) for choice in hint.__args__)
    if hint is float:
        return _fits(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _require_positive(config: Any, *names: str) -> None:
    """Raises ValueError for the first named field that is not above zero."""
    for name in names:
        value = getattr(config, name)
        _require(value > 0, f"{name}={value} must be above 0")


def _require_share(config: Any, *names: str) -> None:
    """Raises ValueError for the first named field that lies outside [0, 1]."""
    for name in names:
        value = getattr(config, name)
        _require(0 <= value <= 1, f"{name}={value} must lie between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConfig:
    """Which environment, and how its frames become rows. Defaults: sec. 3, Machado et al. 2018."""

    suite: Literal["atari", "gymnasium"] = "atari"
    """Where the task comes from."""
    task: str = "pong"
    """Atari: name of the game. Gymnasium: a registered id, or `package.module:make_env`."""
    action_repeat: int = 4
    """Frames per policy step; rewards are summed (App. D)."""
    is_grayscale: bool = True
    """One channel instead of three (sec. 2.1)."""
    sticky_action_probability: float = 0.25
    """Atari: chance per frame that the previous action is repeated (sec. 3)."""
    max_noops: int = 30
    """Atari: up to so many no-op frames after a reset, drawn uniformly (Machado et al. 2018)."""
    time_limit_steps: int | None = 27_000
    """Policy steps after which an episode stops without being terminal; None for no limit.
    27,000 policy steps are 108,000 frames (sec. 3)."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(self, "action_repeat")
        _require_share(self, "sticky_action_probability")
        _require(self.max_noops >= 0, f"max_noops={self.max_noops} must be 0 or more")
        _require(bool(self.task), "task is empty; name a game or `package.module:make_env`")
        if self.time_limit_steps is not None:
            _require_positive(self, "time_limit_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Clip by global norm, decay, Adam: in this order. Defaults: App. D."""

    learning_rate: float
    """Adam step size."""
    clip_norm: float = 100.0
    """Largest global gradient norm."""
    epsilon: float = 1e-5
    """Adam epsilon."""
    weight_decay: float = 1e-6
    """Each step multiplies every parameter by (1 - weight_decay), whatever the learning rate."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(self, "learning_rate", "clip_norm", "epsilon")
        _require(0 <= self.weight_decay < 1, f"weight_decay={self.weight_decay} must be in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldModelConfig:
    """Sizes and loss of the world model (sec. 2.1, eq. 2)."""

    deter: int = 600
    """D, units of the recurrent state (App. D)."""
    hidden: int = 600
    """Units of the RSSM's input, prior and posterior layers (App. D)."""
    latent: Literal["categorical", "gaussian"] = "categorical"
    """Discrete latents (sec. 2.1) or the Gaussian ones of DreamerV1 (ablation)."""
    stoch: int = 32
    """S, number of latent variables (App. D)."""
    classes: int = 32
    """C, classes of each categorical variable (App. D); unused with Gaussian latents."""
    conv_depth: int = 48
    """Channels of the first encoder layer; later layers double it (released)."""
    head_layers: int = 4
    """Hidden layers of the reward and discount heads (App. D)."""
    head_units: int = 400
    """Units of those layers (App. D)."""
    has_layer_norm: bool = True
    """LayerNorm inside the GRU cell; off in an ablation (App. C)."""
    kl_scale: float = 0.1
    """beta, weight of the KL term (App. D)."""
    kl_balance: float = 0.8
    """alpha, share of the KL gradient that trains the prior; 0.5 is the ordinary KL (Alg. 2)."""
    free_nats: float = 0.0
    """KL below this many nats is not penalised (0 on Atari)."""
    has_discount_head: bool = True
    """Learn when episodes end; without it the discount is the constant gamma."""
    discount_loss_scale: float = 1.0
    """s_d, weight of the discount loss (1 in eq. 2; 5 in the released code)."""
    reward_loss_scale: float = 1.0
    """s_r, weight of the reward loss (1 in eq. 2); more lets rare rewards shape it sooner."""
    reward_transform: Literal["tanh", "identity"] = "tanh"
    """Applied to rewards before they are predicted (App. D)."""
    has_image_gradients: bool = True
    """Whether reconstructing images shapes the representation; off in an ablation (sec. 3.2)."""
    has_reward_gradients: bool = True
    """Whether predicting rewards shapes the representation; off in an ablation (sec. 3.2)."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=2e-4))
    """Of the world model (App. D)."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(
            self, "deter", "hidden", "stoch", "classes", "conv_depth", "head_layers", "head_units"
        )
        _require_share(self, "kl_balance")
        for name in ("kl_scale", "free_nats", "discount_loss_scale", "reward_loss_scale"):
            value = getattr(self, name)
            _require(value >= 0, f"{name}={value} must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorConfig:
    """Actor and critic, trained in imagination (sec. 2.2, eq. 4 to 6)."""

    horizon: int = 15
    """H, imagined steps per start state (App. D)."""
    discount: float = 0.995
    """gamma (App. D); also the target of the discount head."""
    lambda_: float = 0.95
    """Mixing of n-step returns (App. D, eq. 4)."""
    reinforce_share: float = 1.0
    """rho, share of reinforce in the actor gradient; the rest is dynamics backpropagation
    (App. D, eq. 6)."""
    reinforce_share_end: float | None = None
    """Value that reinforce_share reaches, linearly, after schedule_policy_steps; None: constant."""
    entropy_scale: float = 1e-3
    """eta, weight of the actor's entropy (App. D, eq. 6)."""
    entropy_scale_end: float | None = None
    """Value that entropy_scale reaches, linearly, after schedule_policy_steps; None: constant."""
    schedule_policy_steps: int = 2_500_000
    """Length of both schedules (10M frames in the released code)."""
    layers: int = 4
    """Hidden layers of actor and critic (App. D)."""
    units: int = 400
    """Units of those layers (App. D)."""
    slow_critic_interval_gradient_steps: int = 100
    """The slow critic is a copy of the critic, renewed this often (App. D)."""
    actor_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=4e-5)
    )
    """Of the actor (App. D)."""
    critic_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-4)
    )
    """Of the critic (App. D)."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(
            self, "schedule_policy_steps", "layers", "units", "slow_critic_interval_gradient_steps"
        )
        _require(
            self.horizon >= 2,
            f"horizon={self.horizon} leaves the actor without a target: an action in state k is "
            "scored by the return of state k + 1; set it to 2 or more",
        )
        _require_share(self, "discount", "lambda_", "reinforce_share")
        _require(self.entropy_scale >= 0, f"entropy_scale={self.entropy_scale} must be 0 or more")
        end = self.reinforce_share_end
        _require(end is None or 0 <= end <= 1, f"reinforce_share_end={end} must be in [0, 1]")
        end = self.entropy_scale_end
        _require(end is None or end >= 0, f"entropy_scale_end={end} must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """How episodes are kept and drawn (sec. 2.1, App. D)."""

    capacity_steps: int = 2_000_000
    """Rows kept; whole oldest segments are evicted first (App. D)."""
    batch_size: int = 50
    """B, sequences per gradient step (App. D)."""
    batch_length: int = 50
    """T, rows per sequence (App. D)."""
    segment_steps: int = 8_192
    """Rows per segment file, the unit of eviction (8,192 grayscale rows are 34 MB)."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(self, "batch_size", "batch_length", "segment_steps")
        _require(
            self.capacity_steps >= self.batch_size * self.batch_length,
            f"capacity_steps={self.capacity_steps} cannot hold one batch of "
            f"{self.batch_size} x {self.batch_length} rows; raise it or shrink the batch",
        )
        _require(
            self.capacity_steps >= 2 * self.segment_steps,
            f"capacity_steps={self.capacity_steps} must hold two segments of "
            f"segment_steps={self.segment_steps}, since eviction removes whole segments; "
            "raise the capacity or shrink the segments",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """Who works when. All counts are policy steps (after action repeat) or gradient steps."""

    prefill_policy_steps: int = 50_000
    """Policy steps of random play before the first gradient step (App. D)."""
    policy_steps_per_gradient_step: int = 4
    """Exact over the run; the drift at any moment is bounded by two collect calls (App. D)."""
    collect_policy_steps: int = 64
    """Policy steps per collect call."""
    publish_interval_gradient_steps: int = 16
    """Gradient steps between two sets of weights sent to the collector."""
    report_interval_gradient_steps: int = 100
    """Gradient steps between two reports of losses."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(
            self,
            "policy_steps_per_gradient_step",
            "collect_policy_steps",
            "publish_interval_gradient_steps",
            "report_interval_gradient_steps",
        )
        _require(
            self.prefill_policy_steps >= 0,
            f"prefill_policy_steps={self.prefill_policy_steps} must be 0 or more",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """When the agent is saved, where to, and how much of the past stays."""

    interval_s: float = 300.0
    """Seconds between two checkpoints; one more is written when a run stops."""
    keep: int = 3
    """Newest checkpoints kept; older ones are deleted."""
    keep_every: int | None = None
    """Of all checkpoints written, every n-th stays for good; None: none does."""
    url: str | None = None
    """An absolute path, or any URL that fsspec knows, such as s3://bucket/run: one place a run.
    None: `checkpoints/` in the run directory."""
    request_timeout_s: float = 120.0
    """Longest wait for one request to a URL, a whole checkpoint included, before the run stops."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(self, "interval_s", "keep", "request_timeout_s")
        if self.keep_every is not None:
            _require_positive(self, "keep_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Where and how gradients are computed. No setting here changes the algorithm."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is any."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products and convolutions; `auto` takes bfloat16 on CUDA cards that have it.
    Parameters, outputs of heads, softmax, LayerNorm and losses are float32 whatever it is."""
    execution: Literal["auto", "eager", "captured", "compiled"] = "auto"
    """Of a gradient step on CUDA: operator by operator, as one CUDA graph, or as one graph of
    kernels fused by torch.compile; `auto` takes the last that the machine can."""
    num_threads: int = 2
    """CPU threads of the learner; losses are bit for bit the same only for the same number."""

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(self, "num_threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run of DreamerV2, complete: the same config and seed give the same run in lockstep."""

    preset: str = "atari"
    """Name of the preset this was made from; not to be set apart from it."""
    seed: int = 0
    """Seeds weights, environment, exploration, replay draws and latent samples."""
    steps: int = 50_000_000
    """Policy steps after which the run ends (50M are 200M frames)."""
    env: EnvConfig = field(default_factory=EnvConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        require_types(self)
        _require_positive(self, "steps")
        _require(self.seed >= 0, f"seed={self.seed} must be 0 or more")
        rows = self.replay.batch_length
        _require(
            self.schedule.prefill_policy_steps >= rows,
            f"prefill_policy_steps={self.schedule.prefill_policy_steps} is shorter than one "
            f"sequence of batch_length={rows} rows, so no batch could be drawn; raise it",
        )


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config as nested plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Any, where: str = "config") -> T:
    """Rebuilds a config dataclass from `to_dict`'s output.

    Raises:
        ValueError: a field is unknown, missing or of another type, named with its place.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must hold fields by name, but is {values!r}")  # noqa: TRY004
    hints = typing.get_type_hints(cls)
    unknown, missing = sorted(set(values) - set(hints)), sorted(set(hints) - set(values))
    if unknown or missing:
        raise ValueError(
            f"{where} holds unknown fields {unknown} and lacks {missing}; known are {sorted(hints)}"
        )
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            arguments[name] = from_dict(hint, value, f"{where}.{name}")
        else:
            arguments[name] = value
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
