"""Fixtures of the tests of the algorithm."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dreamer_core.agent.threads import num_threads
from dreamer_core.storage.store import LocalStore, Store, UrlStore


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One CPU thread: these networks are so small that a second one only costs time."""
    with num_threads(1):
        yield


@pytest.fixture(params=["local", "memory"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    """Makes stores of checkpoints by name: in a directory, and by URL."""
    if request.param == "local":
        return lambda name: LocalStore(tmp_path / name)
    root = f"memory://{uuid.uuid4().hex}"
    return lambda name: UrlStore(f"{root}/{name}", request_timeout_s=30)


@pytest.fixture
def store(make_store: Callable[[str], Store]) -> Store:
    return make_store("checkpoints")
