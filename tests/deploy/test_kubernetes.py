"""deploy/kuberay: valid, without privileges, with the same roles and a token, restartable."""

import copy
import re
import shutil

import jsonschema
import pytest
import yaml

from services.cli.options import TrainCommand, with_preset
from services.runtime.placement import ROLE_LABEL
from services.sweep.command import SweepCommand
from tests.deploy.kubernetes import (
    KUBERAY,
    pod_templates,
    rendered,
    validate,
    what_is_not_restricted,
)
from tests.runs import ROOT

DRAIN_S = 30  # Ray's RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
DIRECTORIES = ("base", "overlays/pong", "overlays/sweep")
FILES = ("namespace.yaml", "runs.yaml", "sweeps.yaml", "monitoring.yaml")
NAMES = ("name", "instance", "part-of", "component")
"""Of the labels app.kubernetes.io/..."""


@pytest.fixture(scope="module")
def jobs():
    """The RayJob of each directory."""
    found = {}
    for directory in DIRECTORIES:
        resources = rendered(KUBERAY / directory)
        (found[directory],) = [each for each in resources if each["kind"] == "RayJob"]
    return found


def pods(job):
    return {component: each["spec"] for component, each in pod_templates(job).items()}


def read(name):
    return list(yaml.safe_load_all((KUBERAY / name).read_text()))


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_job_is_what_kuberay_takes(jobs, directory):
    validate(jobs[directory])
    assert jobs[directory]["metadata"]["namespace"] == "dreamer"


@pytest.mark.parametrize("name", FILES)
def test_what_stands_beside_the_jobs_is_valid(name):
    for resource in read(name):
        validate(resource)


@pytest.mark.parametrize(
    ("place", "field"),
    [
        (("spec",), "ttlSeconds"),
        (("spec", "rayClusterSpec", "headGroupSpec"), "replicas"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec"), "tolerate"),
    ],
)
def test_a_field_that_nobody_knows_is_refused(jobs, place, field):
    job = within = copy.deepcopy(jobs["base"])
    for key in place:
        within = within[key]
    within[field] = 1
    with pytest.raises(jsonschema.ValidationError, match=field):
        validate(job)


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_pods_pass_the_level_restricted(jobs, directory):
    for pod in pods(jobs[directory]).values():
        assert what_is_not_restricted(pod) == []
        assert pod["automountServiceAccountToken"] is False
    (labels,) = [
        x["metadata"]["labels"] for x in read("namespace.yaml") if x["kind"] == "Namespace"
    ]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    "change",
    [
        {"hostNetwork": True},
        {"securityContext": {"runAsNonRoot": True}},
        {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    ],
)
def test_a_pod_with_a_privilege_would_be_seen(jobs, change):
    assert what_is_not_restricted({**pods(jobs["base"])["learner"], **change}) != []


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_every_pod_has_the_standard_labels_and_the_name_of_its_run(jobs, directory):
    job = jobs[directory]
    instance = job["metadata"]["labels"]["app.kubernetes.io/instance"]
    for component, template in pod_templates(job).items():
        labels = template["metadata"]["labels"]
        assert [labels[f"app.kubernetes.io/{name}"] for name in NAMES] == [
            *("dreamer", instance, "dreamer", component)
        ]
    assert directory == "base" or job["metadata"]["name"] == f"dreamer-{instance}"


def test_a_job_has_the_roles_and_a_token(jobs):
    cluster = jobs["overlays/pong"]["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    roles = [group["labels"][ROLE_LABEL] for group in groups]
    assert roles == ["learner", "collector", "evaluator"]
    for job in jobs.values():
        cluster = job["spec"]["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token"}
        pins = (ROOT / "constraints.txt").read_text()
        assert f"ray=={cluster['rayVersion']}\n" in pins


def test_images_are_of_this_version_and_the_gpu_is_asked_for_with_cuda(jobs):
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    for job in jobs.values():
        for pod in pods(job).values():
            (container,) = pod["containers"]
            has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
            assert container["image"].endswith(f":{version}-{'gpu' if has_gpu else 'cpu'}")
            assert any(x["key"] == "nvidia.com/gpu" for x in pod.get("tolerations", ())) == has_gpu
    on_card = str(pods(jobs["overlays/pong"])["learner"]["containers"])
    assert "nvidia.com/gpu" in on_card and "/runs/.cache/torchinductor" in on_card


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_every_volume_of_a_pod_is_there_and_runs_outlive_the_job(jobs, directory):
    claims = {x["metadata"]["name"] for name in ("runs.yaml", "sweeps.yaml") for x in read(name)}
    for component, pod in pods(jobs[directory]).items():
        (container,) = pod["containers"]
        there = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == there.keys() and "/tmp" in mounts
        if component == "learner":
            assert there[mounts["/runs"]]["persistentVolumeClaim"]["claimName"] in claims


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_objects_fit_into_the_shared_memory_of_each_pod(jobs, directory):
    cluster = jobs[directory]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        volumes = {v["name"]: v for v in group["template"]["spec"]["volumes"]}
        size = int(volumes["shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
        assert 80e6 < int(group["rayStartParams"]["object-store-memory"]) < 0.8 * size


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_the_entrypoint_is_a_command_that_this_version_takes(jobs, directory):
    entrypoint, command, *words = jobs[directory]["spec"]["entrypoint"].split()
    assert entrypoint == "entrypoint"  # docker/entrypoint
    kind = {"job": TrainCommand, "sweep": SweepCommand}[command]
    parsed = with_preset(kind, words, f"dreamer {command} PRESET")
    place = parsed.run_dir if command == "job" else parsed.sweep_dir
    assert str(place).startswith("/runs/")


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_job_is_stopped_before_its_pod_and_its_cluster_and_has_time_for_it(jobs, directory):
    """KubeRay stops the job of what is deleted, and Ray kills what takes longer than it allows."""
    limit_s = int(
        re.search(r"STOP_LIMIT_S=(\d+)", (ROOT / "docker/entrypoint").read_text()).group(1)
    )
    head = pods(jobs[directory])["learner"]
    (container,) = head["containers"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["entrypoint", "stop"]
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(limit_s)} in container["env"]
    assert limit_s + DRAIN_S < head["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("directory", "line", "writers"),
    [
        ("overlays/pong", "- ../../components/s3\n", {"learner"}),
        ("overlays/sweep", "components: [../../components/s3-runners]\n", {"learner", "runner"}),
    ],
)
def test_secrets_of_s3_reach_what_writes_there_which_may_ask_for_it(
    tmp_path, directory, line, writers
):
    overlay = (KUBERAY / directory / "kustomization.yaml").read_text()
    assert f"# {line}" in overlay
    copied = tmp_path / "kuberay"
    shutil.copytree(KUBERAY, copied)
    (copied / directory / "kustomization.yaml").write_text(overlay.replace(f"# {line}", line))
    resources = rendered(copied / directory)
    for resource in resources:
        validate(resource)
    policy, job = sorted(resources, key=lambda each: each["kind"])
    assert policy["spec"]["egress"] == [{"ports": [{"protocol": "TCP", "port": 443}]}]
    (may_ask,) = policy["spec"]["podSelector"]["matchExpressions"]
    with_secret = {name for name, pod in pods(job).items() if "dreamer-s3" in str(pod)}
    assert with_secret == writers <= set(may_ask["values"])


def test_the_policy_lets_in_runs_their_operator_and_prometheus():
    (policy,) = [x["spec"] for x in read("namespace.yaml") if x["kind"] == "NetworkPolicy"]
    names = [
        rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in policy["ingress"]
    ]
    assert names == ["dreamer", "kuberay-operator", "prometheus"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_the_monitor_finds_the_port_of_metrics_as_the_rules_want_it(jobs):
    monitor, own_rules = read("monitoring.yaml")
    template = pod_templates(jobs["base"])["learner"]
    labels, (container,) = template["metadata"]["labels"], template["spec"]["containers"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert {"name": endpoint["port"], "containerPort": 9464} in container["ports"]
    assert labels[monitor["spec"]["jobLabel"]] == "dreamer"  # job="dreamer" in deploy/prometheus
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    validate({**own_rules, "spec": rules})  # docs/clusters.md has them applied so
