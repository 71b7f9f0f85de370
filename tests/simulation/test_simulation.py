"""The simulation is worth what it finds: it is silent on the program, and not on its faults."""

import pytest

from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.scenario import Variant, run, simulate, undisturbed

SOON = {
    "keep calls of before in lockstep": 400,
    "keep the collector whose chunk was lost": 400,
    "blame whoever waits": 400,
    "note a guest's reports before the run has them": 300,
    "delete what is evicted at once": 150,
}
"""Schedules within which each fault is found; 50 for all others."""
RARE = ("forget the fence", "stay on a node that is drained")
"""Found after so many that `make simulate-record` alone looks for it."""


class Nobody:
    """An adversary that does nothing."""

    done, is_over, wants_stop = (), True, False

    def take(self, host, **_):
        self.host = host

    def saw_call(self, verb, arguments):
        pass

    def seconds(self, service, verb):
        return 0.1

    def quiet_since_s(self):
        return 0.0

    def slow_until_s(self, service):
        return 0.0


def test_a_run_to_which_nothing_happens_is_finished_in_one_life():
    outcome = run(Variant(), Nobody())
    assert outcome.error is None and outcome.ends == {"finished": 1}


# In 5307 a learner hangs beside a dead replay, was not blamed and answered to nobody.
@pytest.mark.parametrize("seed", [*range(40), 5307])
def test_nothing_is_violated_whatever_breaks(seed):
    outcome = simulate(seed)
    assert outcome.error is None, f"make simulate SEED={seed}"


def test_the_same_seed_breaks_the_same_things_at_the_same_moments():
    first, second = simulate(7), simulate(7)
    assert first.tape == second.tape and first.faults


def test_an_undisturbed_lockstep_run_is_the_same_each_time():
    variant = Variant(is_lockstep=True)
    again = undisturbed.__wrapped__(variant)
    assert undisturbed(variant) == again


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in RARE])
def test_a_fault_put_in_on_purpose_is_found(name):
    with mutated(name):
        assert any(simulate(seed).error is not None for seed in range(SOON.get(name, 50)))
