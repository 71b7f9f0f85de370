"""`ray up` with deploy/ray/local.yaml over real ssh, and a run on it from an operator's machine."""

import json
import re
import time

import pytest

from dreamer_core.report.read import read_jsonl
from tests.cluster.hosts import hosts
from tests.cluster.ray_up import BIN, Operator, what_is_missing

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

TRAIN = (
    *("debug", "--env.time-limit-steps", "80", "--learner.device", "cpu", "--steps", "1000000"),
    *("--evaluation.interval-frames", "200"),
)
JOB_SERVER = "http://127.0.0.1:8265"


def services_on(host):
    titles = (line.removeprefix("ray::").split(".")[0] for line in host.processes())
    return set(titles) & {"Learner", "ReplayServer", "Collector", "Evaluator"}


def wait_until(condition, timeout_s=200):
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "waited too long"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(directory):
    """An operator and three machines that `ray up` has made a cluster."""
    if missing := what_is_missing():
        pytest.skip(missing)
    with hosts(directory / "up", 4) as (desk, *machines):
        operator = Operator(desk, machines)
        operator.run("ray", "up", "-y", operator.cluster, timeout_s=400)
        for machine in machines:
            wait_until(lambda machine=machine: machine.runs("ray::IDLE") or has_raylet(machine))
        yield operator, machines
        if machines[0].runs("bash"):
            operator.run("ray", "down", "-y", operator.cluster)


def has_raylet(host):
    return any("/raylet/raylet" in line for line in host.processes())


@pytest.fixture(scope="module")
def run(cluster):
    """What was printed at its submission, and its directory on the head's disk."""
    operator, (head, *_) = cluster
    printed = operator.dreamer("submit", operator.cluster, *TRAIN, "--run-dir", "runs/first")
    return printed, head.directory / "home" / "runs" / "first"


def test_a_run_is_submitted_and_goes_on_without_the_operator(cluster, run):
    operator, _ = cluster
    printed, run_dir = run
    assert "Started at gradient step 0" in printed and "Job first-" in printed
    assert f"dreamer stop runs/first --on {operator.cluster}" in printed
    wait_until((run_dir / "metrics.jsonl").exists)


def test_its_services_are_on_the_machines_of_their_roles(cluster, run):
    _, (head, player, judge) = cluster
    wait_until(lambda: services_on(judge))
    assert services_on(head) == {"Learner", "ReplayServer"}
    assert services_on(player) == {"Collector"}
    assert services_on(judge) == {"Evaluator"}


def test_the_exit_code_comes_back(cluster, run):
    operator, _ = cluster
    with pytest.raises(AssertionError, match="holds no config"):
        operator.dreamer("status", "runs/other", "--on", operator.cluster)


def test_status_and_log_are_seen_over_ssh(cluster, run):
    operator, _ = cluster
    assert "running" in operator.dreamer("status", "runs/first", "--on", operator.cluster)
    assert "Metrics at" in operator.dreamer("logs", "runs/first", "--on", operator.cluster)


def test_evaluators_attach_over_ssh_and_their_results_are_in_the_run(cluster, run):
    operator, _ = cluster
    words = ("runs/first", "--episodes", "2", "--mode", "sample", "--on", operator.cluster)
    assert operator.dreamer("attach", *words).count("weights of gradient step") == 2
    wait_until(lambda: sampled(run[1]) >= 2)


def test_evaluators_attach_from_another_node_without_the_run_directory(cluster, run):
    _, (head, player, _) = cluster
    words = (run[1], "--ray-address", f"{head.address}:6379", "--episodes", "1")
    as_there = ("env", "-u", "RAY_AUTH_TOKEN", f"HOME={player.directory / 'home'}")
    printed = player.run(*as_there, BIN / "dreamer", "attach", *words)
    assert "weights of gradient step" in printed


def sampled(run_dir):
    lines = read_jsonl(run_dir / "metrics.jsonl")
    return sum(line.labels.get("mode") == "sample" for line in lines)


def test_the_job_server_takes_the_same_commands(cluster, run):
    _, (head, *_) = cluster
    assert "running" in as_on(head, "status", "runs/first", "--on", JOB_SERVER)


def as_on(head, *words):
    """What a command prints on the head, to somebody who is logged in there."""
    own = ("env", "-u", "RAY_AUTH_TOKEN", f"HOME={head.directory / 'home'}", f"PATH={BIN}:/bin")
    return head.run(*own, "dreamer", *words)


def test_prometheus_is_told_of_the_run_by_a_file_while_it_runs(cluster, run):
    _, (head, *_) = cluster
    targets = head.directory / "home" / "dreamer" / "deploy" / "prometheus" / "targets"
    (file,) = targets.glob("*.json")
    assert '"run": "runs/first"' in file.read_text() and '"preset": "debug"' in file.read_text()


JOIN = "import ray; ray.init(address='{}:6379'); print('joined')"
REACH = "import socket; socket.create_connection(('{address}', {port}), timeout=60)"


def test_the_job_server_listens_on_the_heads_loopback_alone(cluster):
    _, (head, player, _) = cluster
    with pytest.raises(AssertionError, match="ConnectionRefused"):
        player.run(BIN / "python", "-c", REACH.format(address=head.address, port=8265))


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["without a token", "with a wrong token"])
def test_a_client_is_refused(cluster, tmp_path, token):
    _, (head, player, _) = cluster
    own = ("env", "-u", "RAY_AUTH_TOKEN", f"HOME={tmp_path}", "RAY_AUTH_MODE=token")
    given = (f"RAY_AUTH_TOKEN={token}",) if token else ()
    with pytest.raises(AssertionError, match=r"AuthenticationError|InvalidAuthToken"):
        player.run(*own, *given, BIN / "python", "-c", JOIN.format(head.address))


def test_a_client_with_the_token_is_not(cluster):
    operator, (head, player, _) = cluster
    own = ("env", f"RAY_AUTH_TOKEN={operator.token}", "RAY_AUTH_MODE=token")
    assert "joined" in player.run(*own, BIN / "python", "-c", JOIN.format(head.address))


def test_the_token_is_in_no_log_and_no_run_directory(cluster, run):
    operator, machines = cluster
    places = [run[1], *(machine.directory / "ray" for machine in machines)]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(files) > 20
    found = [path for path in files if operator.token.encode() in path.read_bytes()]
    assert found == []


def test_a_run_is_fetched_with_rays_own_command(cluster, run):
    operator, _ = cluster
    copy = operator.home / "copy"
    operator.run("ray", "rsync-down", operator.cluster, "runs/first/", f"{copy}/")
    assert (copy / "config.json").read_bytes() == (run[1] / "config.json").read_bytes()


def test_a_stop_leaves_a_checkpoint(cluster, run):
    operator, _ = cluster
    assert "Stopped" in operator.dreamer("stop", "runs/first", "--on", operator.cluster)
    assert (run[1] / "checkpoints" / "LATEST").exists()
    assert "not running" in operator.dreamer("status", "runs/first", "--on", operator.cluster)


def test_ray_job_stop_has_the_run_save_first(cluster, run):
    operator, _ = cluster
    again = operator.dreamer("submit", operator.cluster, *TRAIN, "--run-dir", "runs/first")
    (job,) = re.findall(r"Job (\S+)", again)
    operator.run("ray", "exec", operator.cluster, f"ray job stop {job}")
    *_, last = (run[1] / "supervisor.log").read_text().splitlines()
    assert "Stopped at gradient step" in last


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("logs", "runs/first", "--follow"), "Stopped at gradient step"),
        (("eval", "runs/first", "--episodes", "1"), "mean return"),
        (("replay", "verify", "runs/first"), "whole"),
    ],
    ids=lambda words: words[0],
)
def test_what_a_run_left_is_seen_over_ssh(cluster, run, words, printed):
    operator, _ = cluster
    assert printed in operator.dreamer(*words, "--on", operator.cluster)


SWEEP = ("debug", "--games", "pong,boxing", "--learner.device", "cpu", "--steps", "60")


@pytest.fixture(scope="module")
def swept(cluster, directory):
    """What was printed when a sweep was submitted, and its directory, which all machines see."""
    operator, _ = cluster
    root = directory / "sweep"
    return operator.dreamer("sweep", *SWEEP, "--sweep-dir", root, "--on", operator.cluster), root


def test_a_sweep_is_submitted_and_goes_on_without_the_operator(cluster, swept):
    operator, _ = cluster
    printed, root = swept
    assert "Job sweep-" in printed and "Started: 0 done" in printed
    assert f"dreamer stop {root} --on {operator.cluster}" in printed
    wait_until(lambda: "Ended: 2 done" in (root / "sweep.log").read_text())


def test_a_sweep_is_seen_and_stopped_as_a_run_is(cluster, swept):
    operator, (head, *_) = cluster
    _, root = swept
    status = json.loads(as_on(head, "status", root, "--json", "--on", JOB_SERVER))
    assert status["states"] == {"done": 2, "running": 0, "waiting": 0, "failed": 0}
    assert status["games_done"] == 2 and status["holder"] is None
    assert "Nobody trains in" in operator.dreamer("stop", root, "--on", operator.cluster)


def test_ray_down_leaves_nothing(cluster, run):
    operator, machines = cluster
    status = operator.run("ray", "exec", operator.cluster, "ray status")
    assert "3 local.cluster.node" in status
    operator.run("ray", "down", "-y", operator.cluster)
    wait_until(lambda: not any(has_raylet(machine) for machine in machines))
