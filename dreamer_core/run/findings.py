"""What a trial of an environment shows to be wrong or risky, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dreamer_core.config import EnvConfig
from dreamer_core.run.trial import Trial

ENOUGH_STEPS = 100
"""A trial of fewer policy steps says nothing about rewards, ends of episodes and speed."""
_SLOW_STEPS_PER_SECOND = 30.0  # below that, prefill and training wait for the environment
_LARGE_REWARD = 3.0  # tanh of it is 0.995: larger ones look alike
_LARGE_NUMBER = 10.0  # of a vector; the networks take it as it is
_SHORT_EPISODE = 5
_MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or risky."""

    what: str
    """In plain words, with the numbers seen."""
    advice: str
    """What to do about it."""
    is_wrong: bool = False
    """The agent cannot learn from this; otherwise it is a risk, and may be meant so."""


def findings(config: EnvConfig, trial: Trial) -> list[Finding]:
    """Returns what is wrong, then what is risky.

    Args:
        config: of the environment.
        trial: of it; one shorter than `ENOUGH_STEPS` is judged by what a few steps can show.
    """
    found = [*_crashes(trial), *_actions(trial), *_observations(trial), *_skips(config, trial)]
    if trial.num_steps >= ENOUGH_STEPS:
        found += [*_rewards(trial), *_episodes(config, trial), *_changes(config, trial)]
        found += [*_repeats(trial), *_speed(config, trial)]
    return sorted(found, key=lambda finding: not finding.is_wrong)


def suggestions(config: EnvConfig, trial: Trial) -> list[str]:
    """Returns options of `train` and `local` that fit the environment, besides those of its trial.

    Args:
        config: of the environment.
        trial: of it.
    """
    options: list[str] = []
    rewards = np.array(trial.rewards)
    if config.suite == "gymnasium" and trial.spec.is_discrete and rewards.size:
        large = float(np.abs(rewards).max()) > _LARGE_REWARD
        options += ["--world-model.reward-transform identity"] if large else []
    if _never_ends(config, trial):
        options.append(f"--env.time-limit-steps {max(1000, trial.num_steps)}")
    return options


def _crashes(trial: Trial) -> Iterator[Finding]:
    if trial.crash is not None:
        advice = "Correct the environment: a run would stop here"
        yield Finding(f"It crashed at policy step {trial.num_steps}: {trial.crash}", advice, True)
    if trial.second_failure is not None:
        yield Finding(
            f"A second one, made after the first was closed, failed: {trial.second_failure}",
            "A run makes several, one after the other and in processes at the same time: have "
            "close() give back whatever there is only one of, or claim nothing of that kind",
            is_wrong=True,
        )
    if trial.close_failure is not None:
        yield Finding(
            f"It failed to close: {trial.close_failure}",
            "Correct its close(); a run goes on, but what close() should give back stays taken",
        )


def _observations(trial: Trial) -> Iterator[Finding]:
    has_image = trial.spec.image_shape[-1] > 0
    if has_image and trial.num_steps and trial.brightest <= 1:
        yield Finding(
            f"The image is black: no pixel is brighter than {trial.brightest} of 255",
            "Images of 0 to 1 must be declared as floats (dtype=np.float32), or be scaled to 0 to "
            "255 with gymnasium.wrappers.TransformObservation",
            is_wrong=True,
        )
    elif trial.is_still and trial.num_steps >= ENOUGH_STEPS:
        yield Finding(
            f"All that is observed in {trial.num_steps} policy steps is the same",
            "See that step and reset return a new observation, and not the first one again",
            is_wrong=True,
        )
    if trial.largest > _LARGE_NUMBER:
        yield Finding(
            f"Numbers of the vector reach {trial.largest:.3g}",
            "Bring them to about [-1, 1] with gymnasium.wrappers.RescaleObservation or "
            "NormalizeObservation: they are not scaled here, and large ones outweigh all else",
        )


def _actions(trial: Trial) -> Iterator[Finding]:
    spec = trial.spec
    classes = spec.action_classes or (spec.action_size,)
    if spec.is_discrete and max(classes) == 1:
        yield Finding(
            "There is one action only, so there is nothing to learn to do",
            "See that action_space holds all that the agent may do",
            is_wrong=True,
        )


def _skips(config: EnvConfig, trial: Trial) -> Iterator[Finding]:
    frames = trial.spec.frames_per_policy_step
    skipped = frames // config.action_repeat
    if config.action_repeat > 1 and skipped > 1:
        yield Finding(
            f"Each action lasts {frames} frames: {config.task} plays {skipped} in each of its "
            f"steps, of which a policy step takes env.action_repeat={config.action_repeat}",
            f"--env.action-repeat 1 leaves it at {skipped}",
        )


def _rewards(trial: Trial) -> Iterator[Finding]:
    rewards = np.array(trial.rewards)
    if not rewards.any():
        yield Finding(
            f"Random play met no reward in {trial.num_steps} policy steps",
            "Try more --steps; where reward stays that rare, the agent may never meet any: reward "
            "steps on the way, or begin episodes closer to the goal",
        )
    elif (rewards == rewards[0]).all():
        yield Finding(
            f"Every policy step gave the reward {rewards[0]:g}",
            "Fine if an episode's length is its score; otherwise see that the reward depends on "
            "what was done",
        )
    largest = float(np.abs(rewards).max())
    if largest > _LARGE_REWARD and trial.spec.is_discrete:
        yield Finding(
            f"Rewards reach {largest:g}, but the preset's learner predicts tanh(reward), which "
            f"tells none above {_LARGE_REWARD:g} from another",
            "Scale them to about [-1, 1], or --world-model.reward-transform identity",
        )


def _never_ends(config: EnvConfig, trial: Trial) -> bool:
    has_limit = (config.time_limit_steps or trial.own_limit_steps) is not None
    return not trial.lengths and not has_limit and trial.num_steps >= ENOUGH_STEPS


def _episodes(config: EnvConfig, trial: Trial) -> Iterator[Finding]:
    if _never_ends(config, trial):
        yield Finding(
            f"No episode ended within {trial.num_steps} policy steps, and "
            "env.time_limit_steps is off",
            "--env.time-limit-steps N ends them; returns are told of episodes that end. Try more "
            "--steps if it has a limit of its own",
        )
    if trial.lengths and float(np.median(trial.lengths)) < _SHORT_EPISODE:
        yield Finding(
            f"Episodes last {float(np.median(trial.lengths)):g} policy steps",
            "See that terminated is not set too early; a smaller --env.action-repeat makes more "
            "steps of the same time",
        )


def _changes(config: EnvConfig, trial: Trial) -> Iterator[Finding]:
    share = trial.num_alike / trial.num_steps
    if share > _MOSTLY and not trial.is_still:
        yield Finding(
            f"{share:.0%} of the policy steps changed nothing of what is observed",
            f"A larger --env.action-repeat (now {config.action_repeat}) lets more happen in a "
            "step; what happens out of sight must be shown, or cannot be learned quickly",
        )


def _repeats(trial: Trial) -> Iterator[Finding]:
    if trial.differs_at is not None:
        yield Finding(
            "The same seed and actions gave another episode from policy step "
            f"{trial.differs_at} on",
            "Draw all chance from self.np_random, which super().reset(seed=seed) seeds; without "
            "that no run can be repeated",
        )


def _speed(config: EnvConfig, trial: Trial) -> Iterator[Finding]:
    if trial.steps_per_second < _SLOW_STEPS_PER_SECOND:
        shadows = config.suite == "control" and config.has_shadows
        yield Finding(
            f"It makes {trial.steps_per_second:.3g} policy steps a second; a run will wait for it",
            "--env.no-has-shadows renders faster (and shows other pixels)"
            if shadows
            else "Make it faster first: smaller images, cheaper rendering, a larger "
            "--env.action-repeat",
        )
