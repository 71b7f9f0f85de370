"""A run that has ended, and a server of its page, for all tests of the page."""

import pytest

from tests.runs import CATCH, Run
from tests.watching import Watch


@pytest.fixture(scope="package")
def finished(tmp_path_factory):
    """The directory of a short run that has ended."""
    run = Run("local", tmp_path_factory.mktemp("watched") / "run", *CATCH, "--steps", "120")
    assert run.finish() == 0, run.stderr
    return run.run_dir


@pytest.fixture(scope="package")
def watch(finished):
    """`dreamer watch` of it, at 20 times real speed."""
    with Watch(finished, "--speed", "20") as watch:
        yield watch
    assert watch.process.returncode == 143, watch.stderr
