"""Which environment a task names, and what is said of one that cannot be had."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import Environment, EnvironmentCrashed, UnknownTask
from dreamer_core.envs.suites import make_env
from tests.core.envs.test_gymnasium_env import Counting


def fail(*_: Any, **__: Any) -> Any:
    message = "wheels fell off"
    raise ArithmeticError(message)


def make(task: str) -> Environment:
    return make_env(EnvConfig(suite="gymnasium", task=task), 0)


def test_an_exception_while_making_the_environment_is_a_crash():
    with pytest.raises(EnvironmentCrashed, match="ArithmeticError during making the environment"):
        make(f"{__name__}:fail")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("CartPool-v1", "no id that gymnasium.make accepts: .*CartPole"),
        ("not an id", "no id that gymnasium.make accepts"),
        ("no_such_module_here:make_env", "No module named 'no_such_module_here'"),
        ("tests.no_such_module:make_env", "No module named 'tests.no_such_module'"),
        ("tests.learning.catch:make_evn", "callables defined there: Catch, best_action, make_env"),
        ("tests.learning.catch:BALLS", "needs a callable or an id 'BALLS'"),
        ("games/pong.py:make_env", r"a file, but wanted is a module: give `games\.pong:make_env`"),
        ("/opt/pong.py:make_env", "start from /opt and give `pong:make_env`"),
        (":make_env", "must have the form `package.module:make_env`"),
        ("tests:", "must have the form `package.module:make_env`"),
        (".game:make_env", "must have the form `package.module:make_env`"),
        ("my game:make_env", "must have the form `package.module:make_env`"),
    ],
)
def test_a_task_that_cannot_be_found_is_answered_with_what_exists(task: str, message: str):
    with pytest.raises(UnknownTask, match=message):
        make(task)


def test_an_id_that_a_module_registers_is_made_as_gymnasium_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = (
        "import gymnasium\n"
        "gymnasium.register('Plugged-v3', 'tests.learning.catch:make_env')\n"
        "gymnasium.register('room/Plugged-v1', 'tests.learning.catch:make_env')\n"
    )
    (tmp_path / "my_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert make("my_plugin:Plugged-v3").spec.action_size == 3
    assert make("my_plugin:room/Plugged-v1").spec.action_size == 3
    with pytest.raises(UnknownTask, match="needs a callable or an id 'Plugged-v9' of my_plugin"):
        make("my_plugin:Plugged-v9")


def test_ids_of_ale_py_are_there_without_a_word():
    assert make("ALE/Pong-v5").spec.action_size == 6


@pytest.mark.parametrize(
    ("task", "package"), [("MiniWorld-Maze-v0", "miniworld"), ("PandaReach-v3", "panda-gym")]
)
def test_an_id_of_a_package_that_is_not_installed_names_it(task: str, package: str):
    with pytest.raises(UnknownTask, match=f"pip install {package}"):
        make(task)


def test_what_an_id_needs_besides_is_named(monkeypatch: pytest.MonkeyPatch):
    def needs(*_: Any, **__: Any) -> Any:
        raise gymnasium.error.DependencyNotInstalled('pip install "gymnasium[box2d]"')

    monkeypatch.setattr(gymnasium, "make", needs)
    with pytest.raises(UnknownTask, match=r"not installed: pip install .gymnasium\[box2d\]"):
        make("CarRacing-v3")


def test_a_module_in_the_current_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = "from tests.learning.catch import make_env\n"
    (tmp_path / "my_game_of_today.py").write_text(source)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert make("my_game_of_today:make_env").spec.action_size == 3


def test_a_module_that_fails_to_import_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_broken_game.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentCrashed, match="ZeroDivisionError during importing my_broken"):
        make("my_broken_game:make_env")


@pytest.mark.parametrize("source", ["import sys; sys.exit(3)", "raise ValueError('no licence')"])
def test_a_module_that_ends_the_program_is_a_crash(tmp_path, monkeypatch, source):
    (tmp_path / "my_leaving_game.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentCrashed, match="during importing my_leaving_game"):
        make("my_leaving_game:make_env")


@pytest.mark.parametrize("package", ["services", "dreamer_core"])
def test_a_package_that_has_the_name_of_this_programs_own_is_told_why_it_is_not_found(
    tmp_path, monkeypatch, package
):
    (tmp_path / package).mkdir()
    (tmp_path / package / "game.py").write_text("from tests.learning.catch import make_env")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownTask, match=f"a package '{package}' of yours.*rename yours"):
        make(f"{package}.game:make_env")


class Spaceless(gymnasium.Env):
    """Forgot to say what it observes."""


def test_an_environment_that_does_not_tell_its_spaces_is_a_crash():
    with pytest.raises(EnvironmentCrashed, match="AttributeError during telling its spaces"):
        make(f"{__name__}:Spaceless")


def test_a_registered_id_is_made():
    gymnasium.register("CountingOfTest-v0", lambda **_: Counting())
    assert make("CountingOfTest-v0").reset().image.shape == (64, 64, 1)
