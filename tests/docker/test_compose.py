"""`docker compose up` for real: it trains, what is killed comes back, and nothing stays."""

from __future__ import annotations

import pytest

from tests.docker.stack import PORT

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SERVICES = ("head", "collector", "learner")
TOKEN = "/var/lib/dreamer/token"
NEW_STEPS = 40  # more than were taken between the last report before a kill and the kill


def test_a_stack_without_a_gpu_trains(stack):
    stack.wait_until(lambda: stack.gradient_steps() >= 10)
    before = stack.gradient_steps()
    stack.wait_until(lambda: stack.gradient_steps() >= before + 10)
    assert "ray::Collector" in stack.compose("top", "collector")
    assert "ray::Learner" in stack.compose("top", "learner")


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_runs_under_tini_as_an_ordinary_user(stack, service):
    assert stack.inside(service, "cat", "/proc/1/cmdline").startswith("tini\0")
    assert stack.inside(service, "id", "--user", "--name").strip() == "dreamer"
    status = stack.inside(service, "cat", "/proc/1/status")
    assert "CapBnd:\t0000000000000000" in status


def test_the_image_for_machines_without_a_gpu_has_no_cuda(stack):
    packages = stack.inside("learner", "pip", "list", "--format=freeze")
    assert "torch==" in packages
    assert not [x for x in packages.splitlines() if x.startswith(("nvidia-", "cuda-", "triton"))]


def test_no_port_is_published_but_that_of_metrics_on_loopback(stack):
    published = {}
    for service in SERVICES:
        ports = stack.engine.inspect(stack.container(service))["NetworkSettings"]["Ports"]
        published |= {port: places for port, places in ports.items() if places}
    assert published == {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": PORT}]}


def test_the_token_is_readable_by_its_owner_alone_and_told_to_nobody(stack):
    token = stack.inside("head", "cat", TOKEN)
    assert len(token) == 64
    assert stack.inside("learner", "cat", TOKEN) == token
    assert stack.inside("head", "stat", "--format=%a %U", TOKEN).strip() == "600 dreamer"
    told = stack.compose("logs") + stack.compose("config") + stack.compose("top")
    for service in SERVICES:
        told += stack.engine.docker("inspect", stack.container(service))
    assert token not in told


def test_without_the_token_the_cluster_is_refused(stack):
    ask = ("timeout", "60", "ray", "status", "--address=head:6379")
    assert "Resources" in stack.inside("collector", *ask)
    with pytest.raises(AssertionError, match="InvalidAuthToken"):
        stack.inside("collector", "env", "RAY_AUTH_MODE=disabled", *ask)


@pytest.mark.parametrize("service", ["collector", "learner"])
def test_a_killed_container_comes_back_and_the_run_goes_on(stack, service):
    stack.wait_until(lambda: stack.gradient_steps() >= 10)
    before, stored = stack.gradient_steps(), stack.policy_steps()
    stack.crash(service)
    stack.wait_until(lambda: stack.restarts(service) == 1)
    stack.wait_until(lambda: stack.is_healthy(service))
    stack.wait_until(lambda: stack.gradient_steps() > before + NEW_STEPS)
    stack.wait_until(lambda: stack.policy_steps() > stored)


def test_a_head_that_is_killed_has_the_others_start_again_and_the_run_goes_on(stack):
    before, restarts = stack.gradient_steps(), stack.restarts("learner")
    stack.crash("head")
    stack.wait_until(lambda: stack.restarts("learner") > restarts, timeout_s=180)
    stack.wait_until(lambda: all(map(stack.is_healthy, SERVICES)))
    stack.wait_until(lambda: stack.gradient_steps() > before + NEW_STEPS)
    assert "ray::Collector" in stack.compose("top", "collector")


def test_a_stop_leaves_a_checkpoint_and_a_start_goes_on_from_there(stack):
    stack.wait_until(lambda: stack.gradient_steps() >= 10)
    before = stack.gradient_steps()
    stack.compose("stop", "learner")
    assert stack.engine.inspect(stack.container("learner"))["State"]["ExitCode"] == 143
    stack.compose("start", "learner")
    stack.wait_until(lambda: stack.gradient_steps() > before + NEW_STEPS)
    assert "Resumed from" in stack.compose("logs", "learner")


def test_a_run_that_is_complete_keeps_its_container(stack):
    options = "--steps 240 --schedule.prefill-policy-steps 200"
    short = {"DREAMER_RUN": "short", "DREAMER_OPTIONS": options}
    stack.compose("up", "--detach", "--no-build", **short)
    stack.wait_until(lambda: "The run is complete" in stack.compose("logs", "learner"))
    stack.wait_until(lambda: stack.is_healthy("learner"))
    assert stack.restarts("learner") == 0
    assert "240" in stack.inside("learner", "dreamer", "status", "/runs/short")


def test_down_leaves_the_runs_and_with_volumes_nothing(stack):
    stack.compose("down", timeout_s=120)
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    assert stack.engine.docker("volume", "ls", "--quiet").split() == [
        "dreamer_runs",
        "dreamer_token",
    ]
    stack.compose("down", "--volumes")
    assert stack.engine.docker("volume", "ls", "--quiet") == ""
    assert stack.engine.docker("network", "ls", "--filter=type=custom", "--quiet") == ""
