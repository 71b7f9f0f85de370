"""Fixtures of the tests of the services."""

import pytest

from tests.commands import exit_code_of
from tests.services.attended import Attended


@pytest.fixture(scope="session")
def attended(tmp_path_factory):
    """A run that was attached to, followed and stopped; tests only read what is left."""
    return Attended(tmp_path_factory.mktemp("attended") / "run")


@pytest.fixture
def dreamer(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty directory and a wide terminal: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        return exit_code_of(*arguments), *capsys.readouterr()

    return run
