"""The head of deploy/kuberay, started as KubeRay does: it trains without privileges, and saves."""

import json
import shlex
import time

import pytest

from tests.deploy.kubernetes import KUBERAY, pod_templates, rendered

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

HEAD, IMAGE = "kuberay-head", "dreamerv2-service:0.1.0-cpu"
RUN_DIR = "/runs/pong"
LOCKED = (
    *("--read-only", "--tmpfs=/tmp:exec,mode=1777", "--user=1000:1000"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--env=RAY_AUTH_MODE=token", f"--env=RAY_AUTH_TOKEN={'0' * 64}"),
)
JOB = (
    f"entrypoint job debug --run-dir {RUN_DIR} --steps 1000000 --env.time-limit-steps 100"
    " --checkpoint.interval-s 3600"
)
DASHBOARD = "http://127.0.0.1:8265"
GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=60).read().decode())"


class Head:
    """The container of a head's pod, and what its cluster is told."""

    def __init__(self, engine, container, parameters):
        self.engine = engine
        given = " ".join(f"--{key}={value}" for key, value in parameters.items())
        variables = [f"--env={each['name']}={each['value']}" for each in container["env"]]
        start = f"ulimit -n 65536; ray start --head --block {given}"
        engine.docker(
            *("run", "--detach", "--name", HEAD, "--shm-size=2g", "--volume=kuberay:/runs"),
            *(*LOCKED, *variables, "--entrypoint=tini", IMAGE, "--", "/bin/bash", "-c", start),
        )

    def inside(self, *command):
        """Returns what a command in the container prints."""
        return self.engine.docker("exec", HEAD, *command)

    def get(self, address):
        """Returns what is served in the pod, "" while nothing is."""
        try:
            return self.inside("python", "-c", GET, address)
        except AssertionError:
            return ""

    def submit(self, name):
        """Submits the job from a pod of its own, as locked down."""
        words = f"ray job submit --address {DASHBOARD} --no-wait --submission-id {name} -- {JOB}"
        self.engine.docker(
            *("run", "--rm", f"--network=container:{HEAD}", *LOCKED),
            *("--entrypoint=/bin/bash", IMAGE, "-ce", "--", words),
        )

    def gradient_steps(self):
        """Those that the run has reported, 0 while nobody says."""
        lines = self.get("http://127.0.0.1:9464/metrics").splitlines()
        found = [line for line in lines if line.startswith("dreamer_gradient_steps_total ")]
        return float(found[0].split()[1]) if found else 0.0

    def saved_steps(self):
        """Gradient steps of the run's newest checkpoint."""
        return json.loads(self.inside("dreamer", "status", RUN_DIR, "--json"))["checkpoint"][
            "gradient_step"
        ]


def until(condition, limit_s=400):
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {limit_s} s"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def head(stack):
    (job,) = [each for each in rendered(KUBERAY / "base") if each["kind"] == "RayJob"]
    (container,) = pod_templates(job)["learner"]["spec"]["containers"]
    parameters = job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    try:
        head = Head(stack.engine, container, parameters)
        until(lambda: "success" in head.get("http://127.0.0.1:52365/api/healthz"))  # the probes
        yield head
    finally:
        stack.engine.docker("rm", "--force", "--volumes", HEAD)


def test_a_head_that_is_to_end_saves_first(head):
    head.submit("first")
    until(lambda: head.gradient_steps() >= 5)
    seen = head.gradient_steps()
    head.inside("entrypoint", "stop")
    assert head.saved_steps() >= seen


def test_a_job_that_is_deleted_saves_first_and_went_on_from_there(head):
    saved = head.saved_steps()
    head.submit("second")
    until(lambda: head.gradient_steps() >= saved + 5)
    seen = head.gradient_steps()
    head.inside(*shlex.split(f"ray job stop --address {DASHBOARD} second"))
    assert head.saved_steps() >= seen
