"""A cluster of Ray's that a command starts for itself, for real."""

import json
import subprocess
import sys

import pytest

from tests.runs import ROOT

SCRIPT = """
import json, time
from contextlib import suppress
from pathlib import Path

import ray
from services.cluster.connection import connected

with connected(None, namespace="own", num_cpus=1, object_store_bytes=100_000_000):
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    agent = logs / "dashboard_agent.log"
    deadline_s = time.monotonic() + 60
    while "Event agent" not in (agent.read_text() if agent.exists() else ""):
        assert time.monotonic() < deadline_s, "the agent did not start"
        time.sleep(0.1)
    time.sleep(2.5)  # it would complain once a second
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            lines.append(path.read_text(errors="replace"))
    print(json.dumps([[x for x in lines if logs.parent.name in x], agent.read_text()]))
"""


@pytest.fixture(scope="module")
def own_cluster():
    """(Command lines of its processes, log of Ray's agent) of a cluster that is up."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_that_is_idle_is_started(own_cluster):
    lines, _ = own_cluster
    assert any("/raylet" in line for line in lines) and any("log_monitor.py" in x for x in lines)
    assert not any("/monitor.py" in line or "dashboard.py" in line for line in lines)


def test_rays_agent_does_not_miss_what_is_left_out(own_cluster):
    _, log = own_cluster
    assert "Event agent" in log and "ERROR" not in log and "Traceback" not in log
