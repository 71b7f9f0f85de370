"""What Ray's errors mean, from Ray's many lines: on real actors where their form matters."""

import subprocess
import sys

import pytest
import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from dreamer_core.agent.device import OutOfMemory
from dreamer_core.envs.base import UnknownTask
from services.cluster.ray_errors import deliberate, reason, start_error
from tests.runs import ROOT

TWO_LINES = "No such game.\n  Known: pong"


@pytest.fixture(scope="module")
def on_cluster(ray_address):
    ray.init(ray_address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


class Broken:
    def __init__(self, error, cause=None):
        raise error from cause

    def answer(self):
        pass


def test_the_reason_of_a_failed_call_is_its_exception():
    try:
        raise ValueError("no disk left")
    except ValueError as cause:
        error = RayTaskError("insert()", f"Traceback ...\nValueError: {cause}\n", cause)
    assert reason(error) == "ValueError: no disk left"


def test_the_reason_of_a_death_is_one_sentence():
    assert "\n" not in reason(ActorDiedError()) and ". " not in reason(ActorDiedError())


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (UnknownTask(TWO_LINES), UnknownTask, TWO_LINES),
        (OutOfMemory("too large"), OutOfMemory, "too large"),
        (PermissionError(13, "Denied", "/a"), OSError, "PermissionError: [Errno 13] Denied: '/a'"),
        (KeyError("x"), RuntimeError, "KeyError: 'x'"),
        (AssertionError(), RuntimeError, "AssertionError"),
    ],
)
def test_what_a_constructor_raised_is_known_by_its_kind(on_cluster, raised, kind, words):
    actor = ray.remote(Broken).remote(raised, ValueError("inner"))
    with pytest.raises(RayError) as caught:
        ray.get(actor.answer.remote())
    told = start_error(caught.value)
    assert (type(told), str(told)) == (kind, words)
    assert (deliberate(caught.value) is None) == (kind in (OSError, RuntimeError))


GIVES_UP = """
import sys, time
import services
import ray
from services.cluster.connection import connected

@ray.remote(num_cpus=0)
def fail():
    raise ValueError("nobody asks for this")

with connected(sys.argv[1], namespace="given up"):
    call = fail.remote()
    time.sleep(3)
    del call
    time.sleep(1)
"""


def test_what_a_call_raised_that_was_given_up_is_no_trace_for_who_watches(ray_address):
    command = [sys.executable, "-c", GIVES_UP, ray_address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "nobody asks" not in done.stdout + done.stderr
