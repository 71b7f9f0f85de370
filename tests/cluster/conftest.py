"""Where hosts keep what they have, and what a failed test shows of it."""

from pathlib import Path

import pytest

from tests.cluster.hosts import what_is_missing

TAIL_LINES = 12
STATISTICS = ("[state-dump]", "\t")  # Ray's, on its own event loops
LOGS = (
    "disk/dreamer.log",
    "disk/run/supervisor.log",
    "ray/session_2*/logs/gcs_server.out",
    "ray/session_2*/logs/raylet.out",
    "ray/session_2*/logs/worker-*.err",
)


@pytest.fixture(scope="module", autouse=True)
def directory(tmp_path_factory):
    """Holds a directory for each set of hosts; where there can be none, tests are skipped."""
    if missing := what_is_missing():
        pytest.skip(missing)
    return tmp_path_factory.mktemp("hosts")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed and "directory" in item.funcargs:
        report.sections.extend(tails(item.funcargs["directory"]))
    return report


def tails(directory: Path):
    """Names and last lines of what the newest hosts logged."""
    newest = max(directory.iterdir(), key=lambda path: path.stat().st_mtime, default=directory)
    for path in sorted(path for log in LOGS for path in newest.glob(f"h*/{log}")):
        lines = path.read_text(errors="replace").splitlines()
        told = [line for line in lines if line and not line.startswith(STATISTICS)]
        yield str(path.relative_to(newest)), "\n".join(told[-TAIL_LINES:])
