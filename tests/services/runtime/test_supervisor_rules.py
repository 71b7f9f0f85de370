"""Services hold no handles: in a run the supervisor and its parts alone know Ray."""

import ast
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

import services
from services.runtime.crew import reason

MODULES = sorted(Path(services.__file__).parent.glob("*.py"))
SUPERVISOR = {"supervisor.py", "actors.py", "calls.py", "cluster.py"}
OTHERS = {"attach.py", "bench.py", "remote.py", "sweep.py", "sweep_runs.py", "sweep_worker.py"}
KNOW_RAY = SUPERVISOR | OTHERS  # these are jobs of their own, or start some


def uses_of_ray(source):
    """Imports of ray, and what looks like a call of an actor or a task."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "ray")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray":
            yield node.module
        elif isinstance(node, ast.Attribute) and node.attr == "remote":
            yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_only_the_supervisor_and_the_benchmark_import_ray_or_call_actors(path):
    uses = list(uses_of_ray(path.read_text()))
    assert bool(uses) == (path.name in KNOW_RAY), uses


def test_the_reason_of_a_failed_call_is_its_exception():
    try:
        raise ValueError("no disk left")
    except ValueError as cause:
        error = RayTaskError("insert()", f"Traceback ...\nValueError: {cause}\n", cause)
    assert reason(error) == "ValueError: no disk left"


def test_the_reason_of_a_death_is_one_sentence():
    assert "\n" not in reason(ActorDiedError()) and ". " not in reason(ActorDiedError())
