"""Every setting of the algorithm. The defaults are the paper's Atari values (preset `atari`).

The source of each value stands beside it: "App. D" is the table of hyper-parameters in Appendix D
of "Mastering Atari with Discrete World Models", "sec. n" a section of the paper, "released code"
the authors' where the paper is silent. Names of presets and what they change: presets.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dreamer_core.config_learner import LearnerConfig
from dreamer_core.config_offline import OfflineConfig
from dreamer_core.config_tracker import TrackerConfig
from dreamer_core.fields import (
    TOO_LARGE,
    require,
    require_names,
    require_positive,
    require_share,
    require_types,
    setting,
)

_APP_D = "App. D"
_EQ_2 = "eq. 2"
_SEC_3 = "paper, sec. 3"
_MACHADO = "Machado et al. 2018"
_RELEASED = "released code, May 2021"
_SCHEDULES = "unused without schedules; released code, December 2020"
_USER = "of the environment"
_CURVES = "the published curves"
_OURS = "this project; does not change the algorithm"

EPISODE_LIMIT = 27_000
"""Policy steps of the longest episode that is played for a score, where nothing else is said: that
of the Atari protocol (sec. 3), so that an environment without an end is evaluated too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConfig:
    """Which environment, and how its frames become rows. Defaults: sec. 3, Machado et al. 2018."""

    suite: Literal["atari", "gymnasium", "control"] = setting("atari", _SEC_3)
    """Where the task comes from."""
    task: str = setting("pong", "any of the 55 games")
    """Atari: name of the game. Gymnasium: a registered id, or `package.module:make_env`. Control:
    DOMAIN_TASK of DeepMind Control."""
    action_repeat: int = setting(4, _SEC_3)
    """Frames per policy step; rewards are summed."""
    is_grayscale: bool = setting(True, "sec. 2.1")
    """One channel instead of three."""
    image_key: str | None = setting(None, _USER)
    """Gymnasium: key of the image in a Dict of several, those of Dicts in it joined by slashes.
    None: the only image there is, or the one under "image"."""
    vector_keys: tuple[str, ...] = setting((), _USER)
    """Gymnasium: keys of numbers in a Dict that are seen besides the image, or alone where there is
    none. An observation that is a vector itself needs no name."""
    log_info: tuple[str, ...] = setting((), _USER)
    """Gymnasium: keys of the environment's `info` of which each episode's last value is reported,
    those of dictionaries in it joined by slashes."""
    sticky_action_probability: float = setting(0.25, f"{_SEC_3}; {_MACHADO}")
    """Atari: chance per frame that the previous action is repeated."""
    max_noops: int = setting(30, f"{_RELEASED}: its wrapper of Atari")
    """Atari: up to so many no-op frames after a reset, drawn uniformly."""
    has_shadows: bool = setting(True, "released code")
    """Control: render shadows and reflections; without them the simulator draws faster and the
    agent sees other pixels."""
    time_limit_steps: int | None = setting(27_000, f"{_MACHADO}: 108,000 frames")
    """Policy steps after which an episode stops without being terminal; None for no limit."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "action_repeat")
        require_share(self, "sticky_action_probability")
        is_sane = 0 <= self.max_noops < TOO_LARGE
        require(is_sane, f"max_noops={self.max_noops} must be 0 or more, below {TOO_LARGE}")
        require(bool(self.task), "task is empty; name a game or `package.module:make_env`")
        is_user = self.suite == "gymnasium"
        require(is_user or self.image_key is None, "image_key is for suite=gymnasium alone")
        require(is_user or not self.log_info, "log_info is for suite=gymnasium alone")
        require(is_user or not self.vector_keys, "vector_keys is for suite=gymnasium alone")
        require_names(self, "log_info", "vector_keys")
        if self.time_limit_steps is not None:
            require_positive(self, "time_limit_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Clip by global norm, decay, Adam: in this order. Defaults: App. D."""

    learning_rate: float = field(metadata={"source": _APP_D})
    """Adam step size."""
    clip_norm: float = setting(100.0, _APP_D)
    """Largest global gradient norm."""
    epsilon: float = setting(1e-5, _APP_D)
    """Adam epsilon."""
    beta_2: float = setting(0.999, "released code: its framework's default")
    """Decay a step of Adam's mean of squared gradients: 0.999 remembers some 1,000 steps."""
    weight_decay: float = setting(1e-6, _APP_D)
    """Each step multiplies every parameter by (1 - weight_decay), whatever the learning rate."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "learning_rate", "clip_norm", "epsilon")
        for name in ("beta_2", "weight_decay"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name}={value} must be in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldModelConfig:
    """Sizes and loss of the world model (sec. 2.1, eq. 2)."""

    deter: int = setting(600, _APP_D)
    """D, units of the recurrent state."""
    hidden: int = setting(600, _APP_D)
    """Units of the RSSM's input, prior and posterior layers."""
    latent: Literal["categorical", "gaussian"] = setting("categorical", "sec. 2.1")
    """Discrete latents or the Gaussian ones of DreamerV1 (ablation)."""
    stoch: int = setting(32, _APP_D)
    """S, number of latent variables."""
    classes: int = setting(32, _APP_D)
    """C, classes of each categorical variable; unused with Gaussian latents."""
    conv_depth: int = setting(48, _RELEASED)
    """Channels of the first encoder layer; later layers double it."""
    head_layers: int = setting(4, _APP_D)
    """Hidden layers of the reward and discount heads."""
    head_units: int = setting(400, _APP_D)
    """Units of those layers."""
    memory_rows: int | None = setting(None, "released code: alike for all units")
    """Units of the recurrent state begin by keeping what they hold for 2 to so many rows, each for
    its own time (Tallec and Ollivier 2018); None: all for some four."""
    has_layer_norm: bool = setting(True, "App. C")
    """LayerNorm inside the GRU cell; off in an ablation."""
    kl_scale: float = setting(0.1, _APP_D)
    """beta, weight of the KL term."""
    kl_balance: float = setting(0.8, f"{_APP_D}, Alg. 2")
    """alpha, share of the KL gradient that trains the prior; 0.5 is the ordinary KL."""
    free_nats: float = setting(0.0, "eq. 2 has none")
    """KL below this many nats is not penalised (0 on Atari)."""
    has_discount_head: bool = setting(True, "eq. 1")
    """Learn when episodes end; without it the discount is the constant gamma."""
    discount_loss_scale: float = setting(1.0, _EQ_2)
    """s_d, weight of the discount loss (1 in eq. 2; 5 in the released code)."""
    reward_loss_scale: float = setting(1.0, _EQ_2)
    """s_r, weight of the reward loss (1 in eq. 2); more lets rare rewards shape it sooner."""
    reward_transform: Literal["tanh", "identity"] = setting("tanh", _APP_D)
    """Applied to rewards before they are predicted; see run/settled.py for continuous actions."""
    has_image_gradients: bool = setting(True, _EQ_2)
    """Whether reconstructing images shapes the representation; off in an ablation (sec. 3.2)."""
    has_reward_gradients: bool = setting(True, _EQ_2)
    """Whether predicting rewards shapes the representation; off in an ablation (sec. 3.2)."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=2e-4))
    """Of the world model."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(
            self, "deter", "hidden", "stoch", "classes", "conv_depth", "head_layers", "head_units"
        )
        require_share(self, "kl_balance")
        rows = self.memory_rows
        is_sane = rows is None or 2 <= rows < TOO_LARGE
        require(is_sane, f"memory_rows={rows} must be 2 or more, below {TOO_LARGE}")
        for name in ("kl_scale", "free_nats", "discount_loss_scale", "reward_loss_scale"):
            value = getattr(self, name)
            require(value >= 0, f"{name}={value} must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorConfig:
    """Actor and critic, trained in imagination (sec. 2.2, eq. 4 to 6)."""

    horizon: int = setting(15, _APP_D)
    """H, imagined steps per start state."""
    discount: float = setting(0.995, _APP_D)
    """gamma; also the target of the discount head."""
    lambda_: float = setting(0.95, _APP_D)
    """Mixing of n-step returns (eq. 4)."""
    reinforce_share: float = setting(1.0, _APP_D)
    """rho, share of reinforce in the actor gradient (eq. 6); the rest goes through the dynamics.
    With continuous actions 1 means 0; see run/settled.py."""
    reinforce_share_end: float | None = setting(None, "constant in the paper")
    """Value that reinforce_share reaches, linearly, after schedule_policy_steps; None: constant."""
    entropy_scale: float = setting(1e-3, _APP_D)
    """eta, weight of the actor's entropy (eq. 6)."""
    entropy_scale_end: float | None = setting(None, "constant in the paper")
    """Value that entropy_scale reaches, linearly, after schedule_policy_steps; None: constant."""
    schedule_policy_steps: int = setting(2_500_000, _SCHEDULES)
    """Length of both schedules (10M frames in the released code)."""
    layers: int = setting(4, _APP_D)
    """Hidden layers of actor and critic."""
    units: int = setting(400, _APP_D)
    """Units of those layers."""
    slow_critic_interval_gradient_steps: int = setting(100, _APP_D)
    """The slow critic is a copy of the critic, renewed this often."""
    actor_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=4e-5)
    )
    """Of the actor."""
    critic_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-4)
    )
    """Of the critic."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(
            self, "schedule_policy_steps", "layers", "units", "slow_critic_interval_gradient_steps"
        )
        require(
            self.horizon >= 2,
            f"horizon={self.horizon} leaves the actor without a target: an action in state k is "
            "scored by the return of state k + 1; set it to 2 or more",
        )
        require_share(self, "discount", "lambda_", "reinforce_share")
        require(self.entropy_scale >= 0, f"entropy_scale={self.entropy_scale} must be 0 or more")
        end = self.reinforce_share_end
        require(end is None or 0 <= end <= 1, f"reinforce_share_end={end} must be in [0, 1]")
        end = self.entropy_scale_end
        require(end is None or end >= 0, f"entropy_scale_end={end} must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """How episodes are kept and drawn (sec. 2.1, App. D)."""

    capacity_steps: int = setting(2_000_000, _APP_D)
    """Rows kept; whole oldest segments are evicted first."""
    batch_size: int = setting(50, _APP_D)
    """B, sequences per gradient step."""
    batch_length: int = setting(50, _APP_D)
    """T, rows per sequence."""
    is_end_oversampled: bool = setting(True, "sec. 2.1")
    """Draw starts over all rows and move those too late back to the last that fits, so that ends
    are seen often; off: uniformly over the starts that fit."""
    segment_steps: int = setting(8_192, _OURS)
    """Rows per segment file, the unit of eviction (8,192 grayscale rows are 34 MB)."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "batch_size", "batch_length", "segment_steps")
        require(
            self.capacity_steps >= self.batch_size * self.batch_length,
            f"capacity_steps={self.capacity_steps} cannot hold one batch of "
            f"{self.batch_size} x {self.batch_length} rows; raise it or shrink the batch",
        )
        require(
            self.capacity_steps >= 2 * self.segment_steps,
            f"capacity_steps={self.capacity_steps} must hold two segments of "
            f"segment_steps={self.segment_steps}, since eviction removes whole segments; "
            "raise the capacity or shrink the segments",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """Who works when. All counts are policy steps (after action repeat) or gradient steps."""

    prefill_policy_steps: int = setting(50_000, _RELEASED)
    """Policy steps of random play before the first gradient step."""
    pretrain_gradient_steps: int = setting(0, "none in the paper")
    """Gradient steps on the prefill before the policy first plays, besides those of the ratio."""
    policy_steps_per_gradient_step: int = setting(4, _APP_D)
    """Exact over the run; the drift at any moment is bounded by two collect calls."""
    collect_policy_steps: int = setting(64, _OURS)
    """Policy steps per collect call."""
    publish_interval_gradient_steps: int = setting(16, "this project; bounds the policy's age")
    """Gradient steps between two sets of weights sent to the collector."""
    report_interval_gradient_steps: int = setting(100, _OURS)
    """Gradient steps between two reports of losses."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(
            self,
            "policy_steps_per_gradient_step",
            "collect_policy_steps",
            "publish_interval_gradient_steps",
            "report_interval_gradient_steps",
        )
        for name in ("prefill_policy_steps", "pretrain_gradient_steps"):
            value = getattr(self, name)
            is_sane = 0 <= value < TOO_LARGE
            require(is_sane, f"{name}={value} must be 0 or more, below {TOO_LARGE}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """When the agent is saved, where to, and how much of the past stays."""

    interval_s: float = setting(300.0, _OURS)
    """Seconds between two checkpoints; one more is written when a run stops."""
    keep: int = setting(3, _OURS)
    """Newest checkpoints kept; older ones are deleted."""
    keep_every: int | None = setting(None, _OURS)
    """Of all checkpoints written, every n-th stays for good; None: none does."""
    url: str | None = setting(None, _OURS)
    """An absolute path, or any URL that fsspec knows, such as s3://bucket/run: one place a run.
    None: `checkpoints/` in the run directory."""
    request_timeout_s: float = setting(120.0, _OURS)
    """Longest wait for one request to a URL, a whole checkpoint included, before the run stops."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "interval_s", "keep", "request_timeout_s")
        if self.keep_every is not None:
            require_positive(self, "keep_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How a run is scored: episodes with weights of then, in an environment of their own."""

    interval_frames: int | None = setting(100_000, _CURVES)
    """Environment frames between two evaluations, the last one at the end of the run; `dreamer
    local` does nothing else meanwhile. None: none is scored."""
    episodes: int = setting(1, _CURVES)
    """Episodes of each evaluation."""
    mode: Literal["greedy", "sample"] = setting("greedy", _CURVES)
    """The actor's mode, or a sample of it; the latent state is sampled in both."""
    episode_limit: int = setting(EPISODE_LIMIT, "sec. 3: 108,000 frames")
    """Policy steps after which an episode is cut off."""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "episodes", "episode_limit")
        if self.interval_frames is not None:
            require_positive(self, "interval_frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run of DreamerV2, complete: the same config and seed give the same run in lockstep."""

    preset: str = "atari"
    """Name of the preset this was made from; not to be set apart from it."""
    seed: int = setting(0, _OURS)
    """Seeds weights, environment, exploration, replay draws and latent samples."""
    steps: int = setting(50_000_000, "sec. 3: 200M frames at action repeat 4")
    """Policy steps after which the run ends (50M are 200M frames)."""
    init_from: str | None = setting(None, _OURS)
    """A run or checkpoint whose networks a new run begins with, as `load_named` takes it; the
    optimisers, the counters and the replay begin anew. None: random weights."""
    env: EnvConfig = field(default_factory=EnvConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "steps")
        require(self.seed >= 0, f"seed={self.seed} must be 0 or more")
        require(self.init_from != "", "init_from is empty; name a run or a checkpoint")
        count, size = self.learner.num_processes, self.replay.batch_size
        require(
            count <= size,
            f"learner.num_processes={count} is more than the {size} sequences of a batch; lower it",
        )
        require(
            count == 1 or self.world_model.free_nats == 0,
            f"learner.num_processes={count} needs world_model.free_nats=0, since free nats are "
            "those of the mean over a whole batch; set learner.num_processes=1",
        )
        rows = self.replay.batch_length
        require(
            self.schedule.prefill_policy_steps >= rows,
            f"prefill_policy_steps={self.schedule.prefill_policy_steps} is shorter than one "
            f"sequence of batch_length={rows} rows, so no batch could be drawn; raise it",
        )
