"""Counts policy steps and gradient steps, and says who may work next.

After `prefill_policy_steps` of random play the `pretrain_gradient_steps` fall due, and from then on
one gradient step for every `policy_steps_per_gradient_step` policy steps: exactly over the run,
whatever the speeds of collector and learner. A side that is ahead waits:

    gradient steps issued  <=  due(policy steps acknowledged)
    policy steps issued    <=  prefill + ratio * (gradient steps done - pretrain) + lead + ratio - 1

where the last ratio - 1 policy steps owe no whole gradient step yet. In lockstep the lead is one
collect call, so that collecting and training alternate strictly. Else it is two, so that one call
is collected while the other is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamer_core.config import ScheduleConfig


@dataclass(frozen=True, slots=True)
class CollectOrder:
    """What the collector is to do next."""

    num_policy_steps: int
    is_random: bool
    """Prefill: play uniformly at random."""


class Schedule:
    """The clock of a run. Whoever does the work tells it what happened; it says what may follow.

    Args:
        config: ratio, prefill and intervals.
        steps: policy steps after which the run ends.
        policy_steps: acknowledged by the replay so far (a resumed run begins with some).
        gradient_steps: taken so far.
        is_lockstep: strict alternation.
    """

    def __init__(
        self,
        config: ScheduleConfig,
        *,
        steps: int,
        policy_steps: int = 0,
        gradient_steps: int = 0,
        is_lockstep: bool,
    ) -> None:
        self._config = config
        self._lead = config.collect_policy_steps * (1 if is_lockstep else 2)
        self._is_lockstep = is_lockstep
        self._steps = steps
        self._published_version: int | None = None
        self.resume(policy_steps=policy_steps, gradient_steps=gradient_steps)

    # What happened

    def collecting(self, order: CollectOrder) -> None:
        """The collector was asked for these policy steps."""
        self._policy_steps_issued += order.num_policy_steps

    def stored(self, policy_steps: int) -> None:
        """The replay has acknowledged so many policy steps in all."""
        self._policy_steps = policy_steps

    def training(self) -> int:
        """The learner is asked for the next gradient step; returns its number, from 0."""
        self._gradient_steps_issued += 1
        return self._gradient_steps_issued - 1

    def trained(self) -> None:
        """The learner has taken one more gradient step."""
        self._gradient_steps += 1

    def published(self, version: int | None) -> None:
        """The collector's next weights are of this version; None: they have to be made anew."""
        self._published_version = version

    def resume(self, *, policy_steps: int, gradient_steps: int) -> None:
        """Nothing is under way, and replay and learner stand here."""
        self._policy_steps = self._policy_steps_issued = policy_steps
        self._gradient_steps = self._gradient_steps_issued = gradient_steps

    # Where it stands

    @property
    def policy_steps(self) -> int:
        """Acknowledged by the replay."""
        return self._policy_steps

    @property
    def policy_steps_issued(self) -> int:
        """Asked of the collector, those in flight included."""
        return self._policy_steps_issued

    @property
    def gradient_steps(self) -> int:
        """Taken by the learner."""
        return self._gradient_steps

    @property
    def gradient_steps_issued(self) -> int:
        """Asked of the learner, those in flight included."""
        return self._gradient_steps_issued

    @property
    def published_version(self) -> int | None:
        """Gradient steps behind the weights last sent to the collector."""
        return self._published_version

    @property
    def wanted_ratio(self) -> int:
        """Policy steps per gradient step that the run is held to."""
        return self._config.policy_steps_per_gradient_step

    @property
    def is_done(self) -> bool:
        """Whether all policy steps are taken and trained on."""
        return self.policy_steps >= self._steps and not self._owed(self.gradient_steps)

    def due(self, policy_steps: int) -> int:
        """Gradient steps that fall due by this many policy steps."""
        config = self._config
        trained_on = policy_steps - config.prefill_policy_steps
        if trained_on < 0:
            return 0
        return config.pretrain_gradient_steps + trained_on // config.policy_steps_per_gradient_step

    def next_collect(self) -> CollectOrder | None:
        """The collector's next call, or None while it has to wait."""
        config = self._config
        prefill, issued = config.prefill_policy_steps, self.policy_steps_issued
        if issued >= self._steps:
            return None
        is_random = issued < prefill
        end = min(self._steps, prefill) if is_random else self._steps
        number = min(config.collect_policy_steps, end - issued)
        if not is_random:
            done = self.gradient_steps - config.pretrain_gradient_steps
            if done < 0:
                return None
            trained = prefill + config.policy_steps_per_gradient_step * done
            slack = config.policy_steps_per_gradient_step - 1  # a remainder that owes no step yet
            if issued + number > trained + self._lead + slack:
                return None
            if self._is_lockstep and self._owed(self.gradient_steps):
                return None
        return CollectOrder(number, is_random)

    def may_train(self) -> bool:
        """Whether another gradient step may be issued."""
        return self._owed(self.gradient_steps_issued)

    def should_publish(self) -> bool:
        """Whether the collector's weights are old enough to be replaced, or there are none."""
        if self._is_lockstep and self._owed(self.gradient_steps):
            return False
        if self.published_version is None:
            return True
        age = self.gradient_steps - self.published_version
        return age >= self._config.publish_interval_gradient_steps

    def ratio(self) -> float | None:
        """Live policy steps per gradient step since prefill and pretraining; None before."""
        done = self.gradient_steps - self._config.pretrain_gradient_steps
        if done <= 0:
            return None
        return (self.policy_steps - self._config.prefill_policy_steps) / done

    def _owed(self, gradient_steps: int) -> bool:
        return gradient_steps < self.due(self.policy_steps)
