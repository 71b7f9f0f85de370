"""The schedule, specified as a tape: who works when, at whatever speeds collector and learner run.

The simulated services keep the supervisor's promises: calls are answered in the order in which
they were made, one collect call is in flight at a time, and several gradient steps may be.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer_core.config import ScheduleConfig
from dreamer_core.run.schedule import CollectOrder, Schedule

SPEEDS = {"balanced": (1, 1), "slow learner": (20, 1), "slow collector": (1, 20)}
WEIGHTS = st.sampled_from([*SPEEDS.values(), (1000, 1), (1, 1000)])


def make_config(*, ratio=4, prefill=20, collect=8, publish=4, pretrain=0):
    return ScheduleConfig(
        pretrain_gradient_steps=pretrain,
        policy_steps_per_gradient_step=ratio,
        prefill_policy_steps=prefill,
        collect_policy_steps=collect,
        publish_interval_gradient_steps=publish,
    )


def make_schedule(config=None, *, steps=60, is_lockstep=True, **counts):
    return Schedule(config or make_config(), steps=steps, is_lockstep=is_lockstep, **counts)


def take_steps(schedule, number):
    """The learner takes so many of the gradient steps that are due."""
    for _ in range(number):
        schedule.training()
        schedule.trained()


class Simulation:
    """A supervisor without services: issues what the schedule allows, answers in any order.

    Args:
        schedule: under test.
        weights: odds that the collector or the learner is the next to answer.
        in_flight: gradient steps issued at most before the learner answers.
    """

    def __init__(self, schedule, *, weights=(1, 1), in_flight=4, seed=0):
        self.schedule, self.in_flight, self.weights = schedule, in_flight, weights
        self.random = random.Random(seed)
        self.order = None
        self.tape = []

    def issue(self):
        """Makes all calls that are allowed now."""
        schedule = self.schedule
        if schedule.should_publish():
            schedule.published(schedule.gradient_steps)
            self.tape.append(f"publish {schedule.published_version}")
        order = None if self.order else schedule.next_collect()
        if order is not None:
            self.order = order
            schedule.collecting(order)
            kind = "random" if order.is_random else "policy"
            self.tape.append(f"{kind} {order.num_policy_steps}")
        while schedule.may_train() and self.training < self.in_flight:
            self.tape.append(f"train {schedule.training() + 1}")

    @property
    def training(self):
        return self.schedule.gradient_steps_issued - self.schedule.gradient_steps

    def answer(self):
        """One of the services answers."""
        odds = [weight * bool(w) for weight, w in zip(self.weights, self.waiting, strict=True)]
        if self.random.choices(("collector", "learner"), odds)[0] == "collector":
            self.schedule.stored(self.schedule.policy_steps + self.order.num_policy_steps)
            self.order = None
        else:
            self.schedule.trained()

    @property
    def waiting(self):
        return (self.order is not None, self.training > 0)

    def run(self, check=lambda: None, max_answers=100_000):
        for _ in range(max_answers):
            if self.schedule.is_done:
                return self.tape
            self.issue()
            check()
            assert any(self.waiting), f"deadlock after {self.tape[-5:]}"
            self.answer()
        raise AssertionError("the run does not end")


def surplus(schedule, config):
    """Policy steps asked for beyond those that the gradient steps done have paid for."""
    paid = config.policy_steps_per_gradient_step * schedule.gradient_steps
    return schedule.policy_steps_issued - config.prefill_policy_steps - paid


# The tape


def test_lockstep_alternates_collecting_and_training_strictly():
    tape = Simulation(make_schedule(steps=44)).run()
    assert tape == [
        *("publish 0", "random 8", "random 8", "random 4"),
        *("policy 8", "train 1", "train 2", "policy 8", "train 3", "train 4"),
        *("publish 4", "policy 8", "train 5", "train 6"),
    ]


def test_the_same_speeds_and_order_give_the_same_tape():
    tapes = [Simulation(make_schedule(is_lockstep=False), seed=3).run() for _ in range(2)]
    assert tapes[0] == tapes[1]


def test_without_lockstep_one_call_is_collected_while_the_other_is_trained_on():
    simulation = Simulation(make_schedule(is_lockstep=False), weights=(1, 0))
    while simulation.schedule.policy_steps < 28:
        simulation.issue()
        simulation.answer()
    simulation.issue()
    assert simulation.waiting == (True, True)


def test_a_collector_that_is_ahead_waits_for_the_learner():
    schedule = make_schedule(is_lockstep=False, policy_steps=36, gradient_steps=0)
    assert schedule.due(36) == 4 and schedule.next_collect() is None
    take_steps(schedule, 2)
    assert schedule.next_collect() == CollectOrder(8, is_random=False)


def test_lockstep_collects_nothing_while_a_gradient_step_is_owed():
    schedule = make_schedule(policy_steps=28, gradient_steps=1)
    assert schedule.next_collect() is None
    take_steps(schedule, 1)
    assert schedule.next_collect() == CollectOrder(8, is_random=False)


# What holds at any speed


@pytest.mark.parametrize("is_lockstep", [True, False])
@pytest.mark.parametrize("weights", SPEEDS.values(), ids=SPEEDS)
def test_the_ratio_is_exact_at_the_end_whatever_the_speeds(weights, is_lockstep):
    schedule = make_schedule(steps=1_020, is_lockstep=is_lockstep)
    Simulation(schedule, weights=weights).run()
    assert (schedule.policy_steps, schedule.gradient_steps) == (1_020, 250)
    assert schedule.ratio() == 4


@settings(max_examples=150, deadline=None)
@given(
    ratio=st.integers(1, 40),
    prefill=st.integers(0, 60),
    collect=st.integers(1, 40),
    steps=st.integers(1, 400),
    is_lockstep=st.booleans(),
    speeds=st.fixed_dictionaries(
        {"weights": WEIGHTS, "in_flight": st.integers(1, 6), "seed": st.integers(0, 100)}
    ),
)
def test_every_run_ends_with_the_exact_ratio_and_never_drifts_further_than_its_lead(
    *, ratio, prefill, collect, steps, is_lockstep, speeds
):
    config = make_config(ratio=ratio, prefill=prefill, collect=collect)
    schedule = make_schedule(config, steps=steps, is_lockstep=is_lockstep)
    lead = collect * (1 if is_lockstep else 2)

    def check():
        assert schedule.gradient_steps_issued <= schedule.due(schedule.policy_steps)
        remainder = ratio - 1  # policy steps that owe no gradient step yet
        assert surplus(schedule, config) <= lead + remainder

    Simulation(schedule, **speeds).run(check)
    assert schedule.policy_steps == schedule.policy_steps_issued == steps
    assert schedule.gradient_steps == max(0, steps - prefill) // ratio


@settings(max_examples=100, deadline=None)
@given(
    ratio=st.integers(1, 9),
    policy_steps=st.integers(0, 120),
    lost=st.integers(0, 30),
    is_lockstep=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_resumed_run_makes_up_for_the_gradient_steps_that_a_kill_lost(
    ratio, policy_steps, lost, is_lockstep, seed
):
    config = make_config(ratio=ratio)
    gradient_steps = max(0, max(0, policy_steps - 20) // ratio - lost)
    schedule = make_schedule(
        config,
        steps=150,
        is_lockstep=is_lockstep,
        policy_steps=policy_steps,
        gradient_steps=gradient_steps,
    )
    tape = Simulation(schedule, seed=seed).run()
    assert (schedule.policy_steps, schedule.gradient_steps) == (150, 130 // ratio)
    assert tape.count(f"train {gradient_steps}") == 0


# Prefill, end and resume


def test_prefill_is_random_and_cut_at_its_boundary():
    tape = Simulation(make_schedule(make_config(prefill=10), steps=20)).run()
    assert tape[:4] == ["publish 0", "random 8", "random 2", "policy 8"]


def test_nothing_is_due_before_prefill_ends_and_one_step_each_ratio_after():
    schedule = make_schedule()
    assert [schedule.due(n) for n in (0, 19, 20, 23, 24, 27, 28)] == [0, 0, 0, 0, 1, 1, 2]


def test_a_run_that_ends_within_its_prefill_takes_no_gradient_step():
    schedule = make_schedule(steps=12)
    tape = Simulation(schedule).run()
    assert tape == ["publish 0", "random 8", "random 4"] and schedule.ratio() is None


def test_the_last_call_is_cut_at_the_end_and_a_rest_smaller_than_the_ratio_owes_nothing():
    schedule = make_schedule(steps=31)
    tape = Simulation(schedule).run()
    assert tape[-3:] == ["train 1", "train 2", "policy 3"]
    assert schedule.is_done and schedule.gradient_steps == 2


def test_a_run_is_not_done_before_its_last_gradient_step():
    schedule = make_schedule(steps=28, policy_steps=28, gradient_steps=1)
    assert not schedule.is_done and schedule.next_collect() is None and schedule.may_train()
    take_steps(schedule, 1)
    assert schedule.is_done and not schedule.may_train()


def test_a_finished_run_goes_on_where_it_was_when_it_is_given_more_steps():
    first = make_schedule(steps=31)
    Simulation(first).run()
    counts = {"policy_steps": first.policy_steps, "gradient_steps": first.gradient_steps}
    longer = make_schedule(steps=60, **counts)
    tape = Simulation(longer).run()
    assert tape[:3] == ["publish 2", "policy 8", "train 3"]
    assert (longer.policy_steps, longer.gradient_steps) == (60, 10)


def test_a_run_killed_within_its_prefill_plays_only_the_rest_at_random():
    tape = Simulation(make_schedule(policy_steps=17)).run()
    assert tape[:3] == ["publish 0", "random 3", "policy 8"]


def test_a_resumed_clock_counts_nothing_as_under_way():
    schedule = make_schedule(policy_steps=28, gradient_steps=1)
    schedule.training()
    schedule.collecting(CollectOrder(8, is_random=False))
    schedule.resume(policy_steps=28, gradient_steps=0)
    assert (schedule.policy_steps_issued, schedule.gradient_steps_issued) == (28, 0)
    assert [schedule.training(), schedule.training()] == [0, 1] and not schedule.may_train()


@pytest.mark.parametrize("counter", ["policy_steps", "gradient_steps", "published_version"])
def test_nobody_writes_the_counters_from_outside(counter):
    with pytest.raises(AttributeError):
        setattr(make_schedule(), counter, 5)


# Publishing


def test_the_first_weights_are_published_before_anything_else():
    schedule = make_schedule()
    assert schedule.should_publish()
    schedule.published(0)
    assert not schedule.should_publish()


@pytest.mark.parametrize(("gradient_steps", "is_due"), [(3, False), (4, True), (9, True)])
def test_weights_are_published_once_they_are_an_interval_old(gradient_steps, is_due):
    schedule = make_schedule(is_lockstep=False, policy_steps=60, gradient_steps=gradient_steps)
    schedule.published(0)
    assert schedule.should_publish() == is_due


def test_lockstep_publishes_only_when_nothing_is_owed_so_that_versions_do_not_depend_on_speed():
    schedule = make_schedule(policy_steps=44, gradient_steps=5)
    schedule.published(0)
    assert schedule.due(44) == 6 and not schedule.should_publish()
    take_steps(schedule, 1)
    assert schedule.should_publish()


def test_the_live_ratio_counts_from_the_end_of_prefill():
    assert make_schedule(policy_steps=40, gradient_steps=4).ratio() == 5
    assert make_schedule(policy_steps=40, gradient_steps=0).ratio() is None


# Pretraining


@pytest.mark.parametrize("is_lockstep", [True, False])
def test_the_policy_does_not_play_before_the_pretraining_is_done(is_lockstep):
    schedule = make_schedule(make_config(pretrain=3), is_lockstep=is_lockstep)
    schedule.collecting(CollectOrder(20, is_random=True))
    assert (schedule.due(19), schedule.due(20), schedule.due(24)) == (0, 3, 4)
    schedule.stored(20)
    schedule.published(0)
    for done in range(3):
        assert schedule.next_collect() is None
        assert schedule.may_train() and schedule.ratio() is None, done
        take_steps(schedule, 1)
    assert not schedule.may_train()
    assert schedule.next_collect() == CollectOrder(8, is_random=False)


@pytest.mark.parametrize("is_lockstep", [True, False])
@given(pretrain=st.integers(0, 9), weights=WEIGHTS, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_ratio_is_exact_over_a_run_with_pretraining(is_lockstep, pretrain, weights, seed):
    schedule = make_schedule(make_config(pretrain=pretrain), is_lockstep=is_lockstep)
    Simulation(schedule, weights=weights, seed=seed).run()
    assert (schedule.policy_steps, schedule.gradient_steps) == (60, pretrain + 10)
    assert schedule.ratio() == 4.0


def test_a_resumed_run_owes_what_is_left_of_its_pretraining():
    config = make_config(pretrain=5)
    schedule = make_schedule(config, policy_steps=20, gradient_steps=2)
    take_steps(schedule, 3)
    assert not schedule.may_train() and schedule.gradient_steps == 5
