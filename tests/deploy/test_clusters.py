"""The files for `ray up`: valid, with the same roles, guarded by a token in each."""

import re
import tomllib

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from services.runtime.placement import ROLE_LABEL
from tests.runs import ROOT

RAY = ROOT / "deploy" / "ray"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLOUDS = ("aws", "gcp")
FILES = ("local", *CLOUDS)
ROLES = {"learner", "collector", "evaluator"}
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
def test_a_job_that_is_stopped_is_given_time_for_its_checkpoints(name):
    head, _ = started(cluster(name))
    assert " RAY_JOB_STOP_WAIT_TIME_S=75;" in head  # as in deploy/kuberay


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
