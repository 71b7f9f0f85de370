"""One CPU thread: these networks are so small that a second one only costs time."""

from collections.abc import Iterator

import pytest

from dreamer_core.policy import num_threads


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with num_threads(1):
        yield
