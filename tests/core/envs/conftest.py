"""The way from an instance of a Gymnasium environment to one of ours."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import Environment
from dreamer_core.envs.suites import make_env
from tests.core.envs.gymnasium_games import Wrap


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Wrap:
    """Returns a function that makes an environment from an instance, through its task name."""
    module = ModuleType("module_of_a_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(inner: Any, *, seed: int = 0, **fields: Any) -> Environment:
        vars(module)["make_inner"] = lambda: inner
        defaults = {"action_repeat": 1, "task": "module_of_a_user:make_inner"}
        return make_env(EnvConfig(suite="gymnasium", **{**defaults, **fields}), seed)

    return make
