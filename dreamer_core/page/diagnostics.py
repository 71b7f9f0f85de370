"""Which numbers of a run's log are drawn, besides its returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A chart of the diagnostics: one number of the log, over the run."""

    name: str
    title: str
    """With its unit."""
    may_be_log: bool = False


GROUPS: dict[str, tuple[Metric, ...]] = {
    "World model": (
        Metric("dreamer_image_mean_squared_error", "image error, squared, a pixel", True),
        Metric("dreamer_vector_mean_squared_error", "vector error, squared, a number", True),
        Metric("dreamer_reward_loss", "reward loss, nats"),
        Metric("dreamer_discount_loss", "discount loss, nats", True),
        Metric("dreamer_kl_nats", "KL of posterior from prior, nats", True),
        Metric("dreamer_prior_entropy_nats", "entropy of the prior, nats"),
        Metric("dreamer_posterior_entropy_nats", "entropy of the posterior, nats"),
        Metric("dreamer_world_model_gradient_norm", "gradient norm of the world model", True),
    ),
    "Actor and critic": (
        Metric("dreamer_actor_entropy_nats", "entropy of the actor, nats"),
        Metric("dreamer_actor_target_mean", "imagined return"),
        Metric("dreamer_value_mean", "value of imagined states"),
        Metric("dreamer_actor_loss", "actor loss"),
        Metric("dreamer_critic_loss", "critic loss, nats"),
        Metric("dreamer_imagined_reward_mean", "imagined reward a step"),
    ),
    "Speed": (
        Metric("dreamer_policy_steps_per_second", "policy steps a second", True),
        Metric("dreamer_gradient_steps_per_second", "gradient steps a second", True),
        Metric("dreamer_policy_steps_per_gradient_step", "policy steps a gradient step"),
        Metric("dreamer_policy_lag_gradient_steps", "age of the policy, gradient steps"),
    ),
}
"""What is drawn of each task, in this order; numbers that no run reported are left out."""
DRAWN = frozenset(metric.name for metrics in GROUPS.values() for metric in metrics)
"""Their names."""
