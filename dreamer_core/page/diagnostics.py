"""Which numbers of a run's log are drawn, besides its returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A chart of the diagnostics: one number of the log, over the run."""

    name: str
    title: str
    """With its unit."""
    may_be_log: bool = False


DIAGNOSTICS: dict[str, tuple[Diagnostic, ...]] = {
    "World model": (
        Diagnostic("dreamer_image_mean_squared_error", "image error, squared, a pixel", True),
        Diagnostic("dreamer_vector_mean_squared_error", "vector error, squared, a number", True),
        Diagnostic("dreamer_reward_loss", "reward loss, nats"),
        Diagnostic("dreamer_discount_loss", "discount loss, nats", True),
        Diagnostic("dreamer_kl_nats", "KL of posterior from prior, nats", True),
        Diagnostic("dreamer_prior_entropy_nats", "entropy of the prior, nats"),
        Diagnostic("dreamer_posterior_entropy_nats", "entropy of the posterior, nats"),
        Diagnostic("dreamer_world_model_gradient_norm", "gradient norm of the world model", True),
    ),
    "Actor and critic": (
        Diagnostic("dreamer_actor_entropy_nats", "entropy of the actor, nats"),
        Diagnostic("dreamer_actor_target_mean", "imagined return"),
        Diagnostic("dreamer_value_mean", "value of imagined states"),
        Diagnostic("dreamer_actor_loss", "actor loss"),
        Diagnostic("dreamer_critic_loss", "critic loss, nats"),
        Diagnostic("dreamer_imagined_reward_mean", "imagined reward a step"),
    ),
    "Speed": (
        Diagnostic("dreamer_policy_steps_per_second", "policy steps a second", True),
        Diagnostic("dreamer_gradient_steps_per_second", "gradient steps a second", True),
        Diagnostic("dreamer_policy_steps_per_gradient_step", "policy steps a gradient step"),
        Diagnostic("dreamer_policy_lag_gradient_steps", "age of the policy, gradient steps"),
    ),
}
"""What is drawn of each task, in this order; numbers that no run reported are left out."""
DRAWN = frozenset(each.name for drawn in DIAGNOSTICS.values() for each in drawn)
"""Their names."""
