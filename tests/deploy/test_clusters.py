"""The files for `ray up` and KubeRay: valid, with the same roles, guarded by a token in each."""

import re
import tomllib

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from services.cli.options import TrainCommand, with_preset
from services.cli.parsing import parse
from services.runtime.placement import ROLE_LABEL
from services.terminal.control import StopCommand
from tests.runs import ROOT

RAY = ROOT / "deploy" / "ray"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLOUDS = ("aws", "gcp")
FILES = ("local", *CLOUDS)
ROLES = {"learner", "collector", "evaluator"}
DRAIN_S = 30  # Ray's RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
PROMPT = "RAY_health_check_"


def cluster(name):
    return yaml.safe_load((RAY / f"{name}.yaml").read_text())


def project(file):
    """What is copied of the project: its place there, its place here."""
    return {there: here for there, here in file["file_mounts"].items() if "dreamer" in there}


def started(file):
    """The lines that start Ray: head, worker."""
    lines = (*file["head_start_ray_commands"], *file["worker_start_ray_commands"])
    return [line for line in lines if "ray start" in line]


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file(name):
    prepared = prepare_config(cluster(name))
    validate_config(prepared)
    assert sum(kind["min_workers"] for kind in prepared["available_node_types"].values()) == 2


@pytest.mark.parametrize("name", FILES)
def test_every_start_of_ray_is_guarded_by_a_token(name):
    head, worker = started(cluster(name))
    assert "export RAY_AUTH_MODE=token " in head and "export RAY_AUTH_MODE=token " in worker
    assert cluster(name)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", FILES)
def test_the_dashboard_is_on_loopback_and_silent_machines_are_noticed_soon(name):
    head, _ = started(cluster(name))
    assert "--dashboard-host=127.0.0.1" in head
    assert len(set(re.findall(PROMPT + r"\w+=(?:1000|3)\b", head))) == 4


@pytest.mark.parametrize("name", FILES)
def test_the_project_is_installed_with_its_pins(name):
    file = cluster(name)
    mounted = {there.removeprefix("~/dreamer/"): here for there, here in project(file).items()}
    assert all(there == here and (ROOT / here).exists() for there, here in mounted.items())
    packages = {"dreamer_core", "services"}
    assert {"Makefile", "pyproject.toml", "constraints.txt", *packages} <= mounted.keys()
    assert {PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]} <= set(mounted)
    assert "cd ~/dreamer && make install EXTRAS=control,s3" in file["setup_commands"]


@pytest.mark.parametrize("name", FILES)
def test_ray_up_reads_neither_the_virtual_environment_nor_runs(name):
    mounted = [ROOT / here for here in project(cluster(name)).values()]
    read = {found.parts[len(ROOT.parts)] for path in mounted for found in (path, *path.rglob("*"))}
    assert not {".venv", ".git", "runs", "sweeps", "tests"} & read


@pytest.mark.parametrize("name", FILES)
def test_prometheus_on_the_head_is_told_of_no_run_but_those_there(name):
    assert "targets/*.json" in cluster(name)["rsync_exclude"]


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_has_a_machine_for_each_role_of_which_the_learners_is_no_spot_machine(name):
    kinds = cluster(name)["available_node_types"]
    assert {kind["labels"][ROLE_LABEL] for kind in kinds.values()} == ROLES
    is_spot = {role: "spot" in str(k) or "preemptible" in str(k) for role, k in kinds.items()}
    assert is_spot == {"learner": False, "collector": True, "evaluator": True}
    assert cluster(name)["head_node_type"] == "learner"


def test_own_machines_have_the_same_roles():
    head, worker = started(cluster("local"))
    assert f"--labels={ROLE_LABEL}=learner" in head and f"--labels={ROLE_LABEL}=$(" in worker
    assert "echo collector" in worker and "echo evaluator" in worker


# KubeRay: the fields of its API, version ray.io/v1, that a manifest may have (KubeRay 1.6).

JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
    "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy",
    "metadata", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode",
    "submitterConfig", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend",
    "workerGroupSpecs",
}  # fmt: skip
GROUP = {"labels", "rayStartParams", "resources", "template"}
HEAD = GROUP | {"enableIngress", "headService", "serviceType"}
WORKERS = GROUP | {
    "groupName", "idleTimeoutSeconds", "maxReplicas", "minReplicas", "numOfHosts", "replicas",
    "scaleStrategy", "suspend",
}  # fmt: skip


@pytest.fixture(scope="module")
def manifest():
    directory = ROOT / "deploy" / "kuberay"
    return tuple(yaml.safe_load((directory / f).read_text()) for f in ("runs.yaml", "rayjob.yaml"))


def pods(job):
    spec = job["spec"]["rayClusterSpec"]
    return [
        group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]


def test_the_manifest_has_no_field_that_kuberay_does_not_know(manifest):
    _, job = manifest
    spec = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() <= JOB and spec.keys() <= CLUSTER
    assert spec["headGroupSpec"].keys() <= HEAD
    assert all(group.keys() <= WORKERS for group in spec["workerGroupSpecs"])
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert all(isinstance(v, str) for g in groups for v in g["rayStartParams"].values())


def test_the_manifest_has_the_same_roles_and_a_token(manifest):
    spec = manifest[1]["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert [group["labels"][ROLE_LABEL] for group in groups] == [
        "learner",
        "collector",
        "evaluator",
    ]
    assert spec["authOptions"] == {"mode": "token"}
    pins = (ROOT / "constraints.txt").read_text()
    assert f"ray=={spec['rayVersion']}\n" in pins


def test_pods_run_as_an_ordinary_user_without_privileges(manifest):
    for pod in pods(manifest[1]):
        assert pod["securityContext"]["runAsNonRoot"] and pod["shareProcessNamespace"]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_every_volume_of_a_pod_is_there_and_the_runs_outlive_the_job(manifest):
    claim, job = manifest
    for pod in pods(job):
        there = {volume["name"] for volume in pod["volumes"]}
        used = {mount["name"] for c in pod["containers"] for mount in c["volumeMounts"]}
        assert used == there
    runs = next(v for v in pods(job)[0]["volumes"] if v["name"] == "runs")
    assert runs["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["kind"] == "PersistentVolumeClaim"


def test_objects_fit_into_the_shared_memory_of_each_pod(manifest):
    spec = manifest[1]["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        volumes = {v["name"]: v for v in group["template"]["spec"]["volumes"]}
        size = int(volumes["shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
        assert 80e6 < int(group["rayStartParams"]["object-store-memory"]) < 0.8 * size


def test_the_entrypoint_is_a_command_that_this_version_takes(manifest):
    words = manifest[1]["spec"]["entrypoint"].split()
    assert words[:2] == ["entrypoint", "job"]  # docker/entrypoint: `dreamer train`
    parsed = with_preset(TrainCommand, words[2:], "dreamer train PRESET")
    assert str(parsed.run_dir).startswith("/runs/")
    assert parsed.services.runtime.ray_address == "auto"


def test_the_run_is_stopped_before_its_pod_and_has_time_for_it(manifest):
    head = pods(manifest[1])[0]
    (container,) = head["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["dreamer", "stop"]
    stop = parse(StopCommand, command[2:], "dreamer stop")
    words = manifest[1]["spec"]["entrypoint"].split()
    assert str(stop.run_dir) == words[words.index("--run-dir") + 1]
    assert stop.timeout_s + DRAIN_S < head["terminationGracePeriodSeconds"]
