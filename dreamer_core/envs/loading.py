"""What a task of suite `gymnasium` names: a callable, a registered id, or an id of a module."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium

from dreamer_core.envs.base import OWN_PACKAGES, UnknownTask, UnsupportedEnvironment
from dreamer_core.envs.calling import calling

_REGISTERED_BY = {
    "ALE": ("ale_py", "ale-py"),
    "BabyAI": ("minigrid", "minigrid"),
    "MiniGrid": ("minigrid", "minigrid"),
    "MiniWorld": ("miniworld", "miniworld"),
    "FetchReach": ("gymnasium_robotics", "gymnasium-robotics"),
    "PandaReach": ("panda_gym", "panda-gym"),
    "highway": ("highway_env", "highway-env"),
}
"""By what an id begins with: the module that registers it, and the package that brings that."""
_ID = re.compile(r"([\w:.-]+/)?[\w:.-]+")


def load(task: str) -> gymnasium.Env[Any, Any]:
    """Makes the environment that a task names.

    Raises:
        UnknownTask: it names nothing that could be loaded; says which package it needs, if known.
        UnsupportedEnvironment: what it makes is no gymnasium.Env.
        EnvironmentCrashed: its own code raised.
    """
    # A console script starts without the directory that `python -m` would search first.
    directory = str(Path.cwd())
    if "" not in sys.path and directory not in sys.path:
        sys.path.insert(0, directory)
    make = _of_module(task) if ":" in task else partial(_make_registered, task, task)
    with calling(task, "making the environment"):
        env = make()
    if not isinstance(env, gymnasium.Env):
        raise UnsupportedEnvironment(
            f"task={task!r} must make a gymnasium.Env, but made {type(env).__name__}; derive it "
            "from gymnasium.Env or return a wrapper that is"
        )
    return cast("gymnasium.Env[Any, Any]", env)


def _make_registered(task: str, name: str) -> Any:
    """Makes the environment of a registered id."""
    needed = _REGISTERED_BY.get(re.split(r"[/-]", name, maxsplit=1)[0])
    if needed is not None and name not in gymnasium.registry:
        _import_registering(task, *needed)
    try:
        return gymnasium.make(name, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise UnknownTask(
            f"task={task!r} needs a package that is not installed: {error}. Install it beside "
            "dreamer, in the same environment of Python"
        ) from error
    except gymnasium.error.Error as error:
        close = difflib.get_close_matches(name, gymnasium.registry, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UnknownTask(
            f"task={task!r} is no id that gymnasium.make accepts: {error}{hint} An id exists only "
            "once its package is imported: give `package.module:Id-v0`, or a callable as "
            "`package.module:make_env`"
        ) from error


def _import_registering(task: str, module: str, package: str) -> None:
    """Imports the module that registers an id."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UnknownTask(
            f"task={task!r} is an id of the package {package}, but: {error}. Install it beside "
            f"dreamer: pip install {package}"
        ) from error
    gymnasium.register_envs(found)


def _of_module(task: str) -> Callable[[], Any]:
    """Returns what makes `package.module:name`, where name is a callable of it or an id."""
    module_name, _, name = task.partition(":")
    path = Path(module_name)
    if path.suffix == ".py" and not path.is_dir():
        where = f"start from {path.parent} and " if path.is_absolute() else ""
        module = path.stem if where else ".".join(path.with_suffix("").parts)
        raise UnknownTask(
            f"task={task!r} names a file, but wanted is a module: {where}give `{module}:{name}`"
        )
    is_module = all(part.isidentifier() for part in module_name.split("."))
    if not is_module or not _ID.fullmatch(name):
        raise UnknownTask(
            f"task={task!r} must have the form `package.module:make_env` or `package.module:Id-v0`"
        )
    package = module_name.partition(".")[0]
    if package in OWN_PACKAGES:
        raise UnknownTask(
            f"task={task!r} needs a package {package!r} of yours, but dreamer's own has that name, "
            "and a process can have only one; rename yours, or make the environment in a module "
            "outside it"
        )
    before = set(gymnasium.registry)
    with calling(task, f"importing {module_name}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UnknownTask(
                f"task={task!r} needs the module {module_name}, but: {error}. Install it, or "
                f"start from the directory that holds it (now {Path.cwd()})"
            ) from error
    if callable(getattr(module, name, None)):
        return getattr(module, name)
    if name in gymnasium.registry:
        return partial(_make_registered, task, name)
    callables = sorted(
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    )
    ids = sorted(set(gymnasium.registry) - before)
    raise UnknownTask(
        f"task={task!r} needs a callable or an id {name!r} of {module_name}, which has none; "
        f"callables defined there: {', '.join(callables) or 'none'}; ids registered by it: "
        f"{', '.join(ids) or 'none'}"
    )
