"""DreamerV2: the algorithm, and all that needs no cluster. Start reading at run/local.py.

The names of `__all__` are what a program needs; each is imported when it is first asked for, so
that `import dreamer_core` costs nothing and loads neither torch nor OpenCV.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer_core.agent.agent import DreamerAgent
    from dreamer_core.config import Config, EnvConfig
    from dreamer_core.envs.suites import make_env
    from dreamer_core.errors import BadInput, Failed
    from dreamer_core.presets import preset
    from dreamer_core.replay.reader import ReplayFiles, read_episode
    from dreamer_core.replay.replay import Replay
    from dreamer_core.report.open_loop import save_open_loop
    from dreamer_core.run.acting import Policy
    from dreamer_core.run.analysis import analyse_run
    from dreamer_core.run.evaluation import evaluate_run
    from dreamer_core.run.export import export_policy
    from dreamer_core.run.front import RunResult
    from dreamer_core.run.local import train_local
    from dreamer_core.run.restored import load_agent
    from dreamer_core.storage.run_directory import read_config

__all__ = [
    "BadInput",
    "Config",
    "DreamerAgent",
    "EnvConfig",
    "Failed",
    "Policy",
    "Replay",
    "ReplayFiles",
    "RunResult",
    "analyse_run",
    "evaluate_run",
    "export_policy",
    "load_agent",
    "make_env",
    "preset",
    "read_config",
    "read_episode",
    "save_open_loop",
    "train_local",
]

# Torch's idle CPU threads spin by default, which on a machine with other work (a collector, an
# evaluator, another run) slows a gradient step severalfold. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "BadInput": "errors",
    "Config": "config",
    "DreamerAgent": "agent.agent",
    "EnvConfig": "config",
    "Failed": "errors",
    "Policy": "run.acting",
    "Replay": "replay.replay",
    "ReplayFiles": "replay.reader",
    "RunResult": "run.front",
    "analyse_run": "run.analysis",
    "evaluate_run": "run.evaluation",
    "export_policy": "run.export",
    "load_agent": "run.restored",
    "make_env": "envs.suites",
    "preset": "presets",
    "read_config": "storage.run_directory",
    "read_episode": "replay.reader",
    "save_open_loop": "report.open_loop",
    "train_local": "run.local",
}


def __getattr__(name: str) -> object:
    """Imports a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
