"""A run is stopped, and so saved, once Ray under it is about to end."""

import pytest
from ray.exceptions import AuthenticationError

from services.cluster.leaving import Leaving

NODES = frozenset({"own", "head"})


def seen(*, connect=lambda: None, draining=(), times=1, seconds_apart=1.0):
    """What is seen after so many looks."""
    now_s = [0.0]
    leaving = Leaving(connect, lambda: set(draining), NODES, lambda: now_s[0])
    for _ in range(times):
        leaving.look()
        now_s[0] += seconds_apart
    assert leaving.drained == frozenset(draining)
    return leaving.why


def failing(error):
    def connect():
        raise error

    return connect


@pytest.mark.parametrize("node", sorted(NODES))
def test_a_node_without_which_there_is_no_run_is_drained(node):
    assert "told to end" in (seen(draining=[node, "another"]) or "")


def test_that_another_node_is_drained_stops_nothing():
    assert seen(draining=["a collector's"], times=50) is None


def test_a_head_of_another_cluster_ends_the_run():
    def draining():
        raise AuthenticationError("WrongClusterID")

    leaving = Leaving(lambda: None, draining, NODES, lambda: 0.0)
    leaving.look()
    assert leaving.why == "the head of the Ray cluster was replaced"


def test_a_head_that_refuses_twice_is_gone():
    refused = failing(ConnectionRefusedError("refused"))
    assert seen(connect=refused) is None
    assert "refused" in (seen(connect=refused, times=2) or "")


def test_a_head_that_is_silent_has_ten_seconds():
    silent = failing(TimeoutError("timed out"))
    assert seen(connect=silent, times=10) is None
    assert "timed out" in (seen(connect=silent, times=11) or "")


def test_a_head_that_answers_again_was_never_away():
    answers = iter([ConnectionRefusedError(), None] * 10)

    def connect():
        if (error := next(answers)) is not None:
            raise error

    assert seen(connect=connect, times=20) is None
