"""What all tests share: they wait for no disk."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_disks():
    """Kills leave what was written with the kernel; no test pulls the plug, as fsync is for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _fd: None)
        yield
