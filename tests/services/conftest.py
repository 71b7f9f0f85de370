"""Fixtures of the tests of the services."""

import pytest

from tests.commands import exit_code_of
from tests.shared_cluster import shared_cluster


@pytest.fixture(scope="session")
def ray_address():
    """Of a Ray cluster for those of whom it is not asked how they start and end one."""
    with shared_cluster() as address:
        yield address


@pytest.fixture
def dreamer(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty directory and a wide terminal: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        return exit_code_of(*arguments), *capsys.readouterr()

    return run


@pytest.fixture
def no_ticks(monkeypatch):
    """Has the test alone call a display's `tick`, and no thread besides, once in a real second."""
    monkeypatch.setattr("services.terminal.live_or_lines._TICK_S", 3600.0)
