"""A stack of docker-compose.yml, up on an engine of its own."""

from __future__ import annotations

import contextlib

import pytest

from tests.docker.engine import run, what_is_missing
from tests.docker.stack import running_stack

TAIL_LINES = 40


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """Builds the image and brings the stack up; where there can be none, tests are skipped."""
    if missing := what_is_missing():
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("docker")
    try:
        with running_stack(directory) as stack:
            yield stack
    finally:
        run("rm", "-rf", directory)  # gigabytes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed and "stack" in item.funcargs:
        with contextlib.suppress(AssertionError):  # the engine is gone
            logs = item.funcargs["stack"].compose("logs", "--no-color", f"--tail={TAIL_LINES}")
            report.sections.append(("last lines of the containers", logs))
    return report
