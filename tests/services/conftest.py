"""Fixtures of the tests of the services."""

import pytest

from tests.commands import exit_code_of


@pytest.fixture
def dreamer(capsys, monkeypatch, tmp_path):
    """Runs a command in an empty directory and a wide terminal: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        return exit_code_of(*arguments), *capsys.readouterr()

    return run
