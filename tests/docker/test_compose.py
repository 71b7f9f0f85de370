"""`docker compose up` for real: it trains, what is killed comes back, and nothing stays."""

from __future__ import annotations

import json
import re

import pytest

from tests.docker.engine import BASE_IMAGE
from tests.docker.stack import PORT

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

SERVICES = ("head", "collector", "learner")
WITH_EVALUATOR = (*SERVICES, "evaluator")
EVALUATOR = ("--profile=evaluator", "up", "--wait", "--no-build", "evaluator")
SAMPLING = {"DREAMER_EVALUATOR_OPTIONS": "--mode sample"}  # as the run's own evaluator does not
SAMPLED = ("dreamer_evaluation_return", "sample", "latest")
IMAGE = "dreamerv2-service:0.1.0-cpu"
TOKEN = "/var/lib/dreamer/token"
NEW_STEPS = 40  # more than were taken between the last report before a kill and the kill


def test_a_stack_without_a_gpu_trains(stack):
    stack.wait_until(lambda: stack.gradient_steps() >= 10)
    before = stack.gradient_steps()
    stack.wait_until(lambda: stack.gradient_steps() >= before + 10)
    assert "ray::Collector" in stack.compose("top", "collector")
    assert "ray::Learner" in stack.compose("top", "learner")


def test_an_evaluator_joins_a_run_and_tells_it_what_it_sees(stack):
    assert SAMPLED not in stack.scrape()
    restarts = stack.restarts("learner")
    stack.compose(*EVALUATOR, **SAMPLING)
    assert stack.restarts("learner") == restarts
    stack.wait_until(lambda: SAMPLED in stack.scrape())
    assert "ray::Evaluator" in stack.compose("top", "evaluator")


def test_episodes_are_filmed_where_the_run_can_be_written(stack):
    film = ("dreamer", "attach", "/runs/atari_tiny", "--episodes=1", "--video")
    assert "gradient step" in stack.inside("learner", *film)
    assert stack.inside("learner", "ls", "/runs/atari_tiny/videos").count("-greedy-") == 1
    with pytest.raises(AssertionError, match="cannot be written from here"):
        stack.inside("evaluator", *film)


def test_the_page_of_the_run_is_served_on_loopback(stack):
    stack.compose("--profile=watch", "up", "--wait", "--no-build", "watch")
    assert "<title>" in stack.page("")
    assert json.loads(stack.page("curve"))["run"] == "atari_tiny"
    ports = stack.engine.inspect(stack.container("watch"))["NetworkSettings"]["Ports"]
    assert [place["HostIp"] for places in ports.values() for place in places or ()] == ["127.0.0.1"]
    stack.compose("--profile=watch", "rm", "--stop", "--force", "watch")


@pytest.mark.parametrize("service", WITH_EVALUATOR)
def test_a_container_runs_under_tini_as_an_ordinary_user(stack, service):
    assert stack.inside(service, "cat", "/proc/1/cmdline").startswith("tini\0")
    assert stack.inside(service, "id", "--user", "--name").strip() == "dreamer"
    status = stack.inside(service, "cat", "/proc/1/status")
    assert "CapBnd:\t0000000000000000" in status


@pytest.mark.parametrize("service", WITH_EVALUATOR)
def test_a_container_writes_to_its_volumes_and_tmp_alone_and_has_limits(stack, service):
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.inside(service, "touch", "/home/dreamer/x")
    host = stack.engine.inspect(stack.container(service))["HostConfig"]
    assert host["Memory"] >= 2 * 2**30 and host["PidsLimit"] > 0


def test_the_image_is_small_says_what_it_is_and_lists_what_is_in_it(stack):
    image, base = (stack.engine.inspect(name) for name in (IMAGE, BASE_IMAGE))
    assert image["Size"] - base["Size"] < 1.06e9  # the base that the Dockerfile names has 0.13 GB
    labels = {k.rpartition(".")[2]: v for k, v in image["Config"]["Labels"].items()}
    assert labels["version"] == re.search(r"\d+\.\d+\.\d+", IMAGE).group()
    bom = json.loads(stack.inside("head", "cat", "/opt/dreamer/sbom.cdx.json"))
    names = {each["name"] for each in bom["components"]}
    assert {"torch", "ray", "dreamerv2-service", "tini", "libc6"} <= names


def test_the_image_for_machines_without_a_gpu_has_no_cuda(stack):
    packages = stack.inside("learner", "pip", "list", "--format=freeze")
    assert "torch==" in packages
    assert not [x for x in packages.splitlines() if x.startswith(("nvidia-", "cuda-", "triton"))]


def test_the_override_for_a_gpu_gives_it_to_the_learner_alone(stack):
    files = ("-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml")
    services = json.loads(stack.compose(*files, "config", "--format=json"))["services"]
    learner = services.pop("learner")
    assert learner["build"]["target"] == "gpu" and learner["image"] == "dreamerv2-service:0.1.0-gpu"
    (device,) = learner["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and device["driver"] == "nvidia"
    kept = learner["environment"]["TORCHINDUCTOR_CACHE_DIR"]
    assert kept.startswith("/runs/")
    assert {service["build"]["target"] for service in services.values()} == {"cpu"}


def test_no_port_is_published_but_that_of_metrics_on_loopback(stack):
    published = {}
    for service in WITH_EVALUATOR:
        ports = stack.engine.inspect(stack.container(service))["NetworkSettings"]["Ports"]
        published |= {port: places for port, places in ports.items() if places}
    assert published == {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": PORT}]}


def test_the_token_is_readable_by_its_owner_alone_and_told_to_nobody(stack):
    token = stack.inside("head", "cat", TOKEN)
    assert len(token) == 64
    assert stack.inside("evaluator", "cat", TOKEN) == token
    assert stack.inside("head", "stat", "--format=%a %U", TOKEN).strip() == "600 dreamer"
    told = stack.compose("logs") + stack.compose("config") + stack.compose("top")
    told += stack.engine.docker("history", "--no-trunc", IMAGE)
    for inspected in (IMAGE, *map(stack.container, WITH_EVALUATOR)):
        told += stack.engine.docker("inspect", inspected)
    assert token not in told


@pytest.mark.parametrize("service", ["head", "learner", "evaluator"])
def test_no_file_of_a_container_holds_the_token_but_its_own(stack, service):
    places = ("/etc", "/home", "/opt", "/run", "/runs", "/tmp", "/usr/local", "/var")
    search = f"grep -rlsF -f {TOKEN} {' '.join(places)} || true"  # fails over what it may not read
    assert stack.inside(service, "bash", "-c", search).split() == [TOKEN]


def test_without_the_token_the_cluster_is_refused(stack):
    ask = ("timeout", "200", "ray", "status", "--address=head:6379")
    assert "Resources" in stack.inside("collector", *ask)
    with pytest.raises(AssertionError, match="InvalidAuthToken"):
        stack.inside("collector", "env", "RAY_AUTH_MODE=disabled", *ask)


def test_prometheus_finds_the_run_and_its_rules(stack):
    stack.compose("--profile=monitoring", "up", "--wait", "--no-build", "prometheus")

    def samples():
        return stack.ask_prometheus("query", query="dreamer_gradient_steps_total")["result"]

    stack.wait_until(samples)
    (sample,) = samples()
    assert sample["metric"]["run"] == "/runs/atari_tiny"
    assert sample["metric"]["instance"].endswith(f":{PORT}")
    rules = [x for group in stack.ask_prometheus("rules")["groups"] for x in group["rules"]]
    assert {"DreamerTargetDown", "run:dreamer_gradient_steps:rate5m"} <= {x["name"] for x in rules}


def test_a_killed_evaluator_comes_back_and_the_run_does_not_notice(stack):
    before, restarts = stack.scrape(), stack.restarts("evaluator")
    stack.crash("evaluator")
    stack.wait_until(lambda: stack.restarts("evaluator") > restarts)
    stack.wait_until(lambda: stack.is_healthy("evaluator"))
    newest = ("dreamer_evaluation_policy_steps", "sample", "latest")
    stack.wait_until(lambda: stack.scrape().get(newest, 0.0) > before[newest])
    trouble = ("dreamer_restarts_total", "dreamer_errors_total")
    for key, value in stack.scrape().items():
        assert key[0] not in trouble or value == before.get(key, 0.0), key


@pytest.mark.parametrize("service", ["collector", "learner"])
def test_a_killed_container_comes_back_and_the_run_goes_on(stack, service):
    stack.wait_until(lambda: stack.gradient_steps() >= 10)
    before, stored = stack.gradient_steps(), stack.policy_steps()
    restarts = stack.restarts(service)
    stack.crash(service)
    stack.wait_until(lambda: stack.restarts(service) > restarts)
    stack.wait_until(lambda: stack.is_healthy(service))
    stack.wait_until(lambda: stack.gradient_steps() > before + NEW_STEPS)
    stack.wait_until(lambda: stack.policy_steps() > stored)


def test_an_evaluator_joins_the_run_that_goes_on(stack):
    stack.wait_until(lambda: SAMPLED in stack.scrape())  # a new process, a new scrape
    assert stack.is_healthy("evaluator")


def test_a_head_that_is_killed_has_the_others_start_again_and_the_run_goes_on(stack):
    before, restarts = stack.gradient_steps(), stack.restarts("learner")
    stack.crash("head")
    stack.wait_until(lambda: stack.restarts("learner") > restarts)
    stack.wait_until(lambda: all(map(stack.is_healthy, SERVICES)))
    stack.wait_until(lambda: stack.gradient_steps() > before + NEW_STEPS)
    assert "ray::Collector" in stack.compose("top", "collector")


def test_a_stop_leaves_a_checkpoint_and_a_start_goes_on_from_there(stack):
    stack.wait_until(lambda: stack.gradient_steps() >= 10)
    before = stack.gradient_steps()
    stack.compose("stop", "evaluator", "learner")
    assert stack.engine.inspect(stack.container("evaluator"))["State"]["ExitCode"] == 143
    assert stack.engine.inspect(stack.container("learner"))["State"]["ExitCode"] == 143
    stack.compose("start", "learner")
    stack.wait_until(lambda: stack.gradient_steps() > before + NEW_STEPS)
    assert "Resumed from" in stack.compose("logs", "learner")


def test_a_run_that_is_complete_keeps_its_container(stack):
    options = "--steps 240 --schedule.prefill-policy-steps 200 --env.time-limit-steps 100"
    short = {"DREAMER_RUN": "short", "DREAMER_OPTIONS": options}
    stack.compose("up", "--detach", "--no-build", **short)
    restarts = stack.restarts("learner")
    stack.wait_until(lambda: "The run is complete" in stack.compose("logs", "learner"))
    stack.wait_until(lambda: stack.is_healthy("learner"))
    assert stack.restarts("learner") == restarts
    assert "240" in stack.inside("learner", "dreamer", "status", "/runs/short")


def test_down_leaves_the_runs_and_with_volumes_nothing(stack):
    stack.compose("--profile=*", "down")
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    kept = stack.engine.docker("volume", "ls", "--quiet").split()
    assert {"dreamer_runs", "dreamer_token"} <= set(kept)
    stack.compose("--profile=*", "down", "--volumes")
    assert stack.engine.docker("volume", "ls", "--quiet") == ""
    assert stack.engine.docker("network", "ls", "--filter=type=custom", "--quiet") == ""
