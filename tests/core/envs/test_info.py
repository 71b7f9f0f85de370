"""What an environment tells in its info under the keys that the user named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.base import EnvironmentCrashed
from dreamer_core.errors import BadInput
from dreamer_core.run.rollout import Rollout
from tests.core.envs.gymnasium_games import Counting, Wrap, one_hot
from tests.core.small import small


class Telling(Counting):
    """Tells at each frame what a function of its number returns."""

    def __init__(self, tell: Any, length: int = 3) -> None:
        super().__init__(length=length)
        self.tell = tell

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        return super().reset(seed=seed)[0], self.tell(0)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        return *super().step(action)[:4], self.tell(self.frame)


def infos(env: Any) -> list[dict[str, float]]:
    """What is known after each row of an episode."""
    steps = [env.reset()]
    while not steps[-1].is_last:
        steps.append(env.step(one_hot(0)))
    return [dict(step.info) for step in steps]


def test_a_value_stays_until_the_environment_tells_another(wrap: Wrap):
    told = [{"level": 7}, {"success": False}, {}, {"success": np.True_, "level": np.float32(8)}]
    env = wrap(Telling(told.__getitem__), log_info=("success", "level"))
    rows = [{"level": 7}, {"level": 7, "success": 0}, {"level": 7, "success": 0}]
    assert infos(env) == [*rows, {"level": 8, "success": 1}]
    assert infos(env)[0] == {"level": 7}  # the next episode begins without them


def test_of_repeated_frames_the_last_value_counts(wrap: Wrap):
    env = wrap(Telling(lambda frame: {"x": frame}), log_info=("x",), action_repeat=2)
    assert infos(env) == [{"x": 0}, {"x": 2}, {"x": 3}]


def test_a_key_may_lie_in_a_dictionary_inside_the_info(wrap: Wrap):
    env = wrap(Telling(lambda k: {"a": {"b": k}, "c/d": 5}), log_info=("a/b", "c/d", "a/c"))
    assert infos(env)[-1] == {"a/b": 3, "c/d": 5}


def test_nothing_is_read_unless_a_key_is_named(wrap: Wrap):
    assert infos(wrap(Telling(lambda _: None))) == [{}] * 4


def test_a_value_that_is_not_a_number_may_be_nan(wrap: Wrap):
    (value,) = infos(wrap(Telling(lambda _: {"x": math.nan}), log_info=("x",)))[-1].values()
    assert math.isnan(value)


@pytest.mark.parametrize("value", ["yes", [1.0], np.ones(1), {"b": 1}, 1j])
def test_what_is_no_single_number_is_a_crash_that_names_the_key(wrap: Wrap, value: Any):
    env = wrap(Telling(lambda _: {"x": value}), log_info=("x",))
    with pytest.raises(EnvironmentCrashed, match=r"make_inner must tell one number.*'x' in its in"):
        env.reset()


def test_an_info_that_is_no_dictionary_is_a_crash(wrap: Wrap):
    with pytest.raises(EnvironmentCrashed, match="a dictionary as its info, but returned None"):
        wrap(Telling(lambda _: None), log_info=("x",)).reset()


def test_a_key_that_a_whole_episode_did_not_tell_is_a_warning_with_those_it_told(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
):
    env = wrap(Telling(lambda _: {"won": 1, "y": 2}), log_info=("success", "y"))
    assert infos(env)[-1] == infos(env)[-1] == {"y": 2}
    (warning,) = caplog.messages
    assert "told no success (--env.log-info)" in warning and "it told won, y" in warning


def test_a_finished_episode_says_what_was_told_last(wrap: Wrap):
    env = wrap(Telling(lambda frame: {"x": frame}, length=4), log_info=("x",))
    (episode,) = Rollout(env, small("debug"), 0).run(6, policy_step=0, weights=None).episodes
    assert episode.info == {"x": 4}


def test_keys_are_refused_where_there_is_no_info_and_where_they_say_nothing():
    with pytest.raises(BadInput, match="log_info is for suite=gymnasium alone"):
        EnvConfig(log_info=("lives",))
    for names in [("x", "x"), ("",)]:
        with pytest.raises(BadInput, match="must hold different names, none of them empty"):
            EnvConfig(suite="gymnasium", log_info=names)
