"""Fixtures of the tests of the command line."""

import shutil

import pytest

from tests.commands import SMALL, contents, exit_code_of, plain


@pytest.fixture
def refused(dreamer, tmp_path):
    """Runs a command that must be refused as bad input, and returns its one paragraph."""

    def run(*arguments):
        before = contents(tmp_path)
        code, stdout, stderr = dreamer(*arguments)
        assert code == 2, stdout + stderr
        assert "Traceback" not in stdout + stderr
        assert stderr.strip() and "\n\n" not in stderr.strip()
        assert contents(tmp_path) == before
        return plain(stderr)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The directory of a finished run on Catch; tests only read it."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert exit_code_of("local", "debug", "--run-dir", run_dir, *SMALL) == 0
    return run_dir


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run in the test's own directory."""
    return shutil.copytree(finished, tmp_path / "run")
