"""DeepMind Control: what the agent sees and is told, its end, its state; on the real simulator."""

import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs import rendering
from dreamer_core.envs.base import EnvironmentCrashed, UnknownTask, UnsupportedEnvironment
from dreamer_core.envs.suites import environment_spec, make_env

pytest.importorskip("dm_control", reason="needs the extra `control`")


def config(task="cartpole_balance", **changes):
    settings = {"action_repeat": 2, "is_grayscale": False, "time_limit_steps": None, **changes}
    return EnvConfig(suite="control", task=task, **settings)


def play(env, actions):
    steps = [env.reset()]
    steps += [env.step(np.full(env.spec.action_size, action, np.float32)) for action in actions]
    return steps


@pytest.fixture
def env():
    made = make_env(config(), seed=5)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("task", "action_size"), [("walker_walk", 6), ("cup_catch", 2), ("point_mass_easy", 2)]
)
def test_a_task_is_seen_in_colour_and_takes_a_number_a_joint(task, action_size):
    spec = environment_spec(config(task))
    assert (spec.image_shape, spec.action_size, spec.is_discrete) == (
        (64, 64, 3),
        action_size,
        False,
    )


def test_an_episode_is_a_thousand_control_steps_and_ends_by_its_limit(env):
    env.reset()
    env._env._step_limit = 7  # of the simulator, so that the test is short
    steps = play(env, [0.0] * 4)
    assert [step.is_last for step in steps] == [False] * 4 + [True]
    assert not any(step.is_terminal for step in steps)
    assert make_env(config(), seed=5)._env._step_limit == 1000 == 2 * env.own_limit_steps
    with pytest.raises(ValueError, match="call reset first"):
        env.step(np.zeros(1, np.float32))


def test_rewards_of_the_repeated_action_are_summed(env):
    once = make_env(config(action_repeat=1), seed=5)
    twice = play(env, [0.3] * 3)
    single = play(once, [0.3] * 6)
    sums = [single[i].reward + single[i + 1].reward for i in (1, 3, 5)]
    assert [step.reward for step in twice[1:]] == pytest.approx(sums, abs=0)
    assert np.array_equal(twice[3].image, single[6].image)
    assert 1.5 < sums[0] <= 2  # the pole begins upright


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(env):
    same, other = (make_env(config(), seed=seed) for seed in (5, 6))
    first = [play(env, [0.5, -1.0]) for _ in range(2)]
    again = [play(same, [0.5, -1.0]) for _ in range(2)]
    for one, two in zip(first, again, strict=True):
        assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(first[0][0].image, first[1][0].image)
    assert not np.array_equal(play(other, [])[0].image, first[0][0].image)


@pytest.mark.parametrize("task", ["cartpole_balance", "reacher_easy"])  # whose model is redrawn
def test_a_restored_episode_goes_on_as_the_one_it_was_taken_from(task):
    env, fresh = make_env(config(task), seed=5), make_env(config(task), seed=9)
    play(env, [0.5])
    play(env, [0.5, -1.0, 0.25])
    fresh.restore(env.state())
    action = np.full(env.spec.action_size, -0.5, np.float32)
    for _ in range(3):
        wanted, got = env.step(action), fresh.step(action)
        assert np.array_equal(wanted.image, got.image) and wanted.reward == got.reward
    assert np.array_equal(env.reset().image, fresh.reset().image)


def test_the_state_of_another_task_is_refused(env):
    env.reset()
    with pytest.raises(ValueError, match="Wanted the state of an episode of walker_walk"):
        make_env(config("walker_walk"), seed=0).restore(env.state())


def test_gray_is_one_channel_and_no_shadows_are_other_pixels(env):
    gray = play(make_env(config(is_grayscale=True), seed=5), [0.1])[-1].image
    plain = play(make_env(config(has_shadows=False), seed=5), [0.1])[-1].image
    seen = play(env, [0.1])[-1].image
    assert gray.shape == (64, 64, 1) and plain.shape == seen.shape
    assert not np.array_equal(plain, seen)
    assert env.screen().shape == (240, 240, 3)
    assert env.frames_per_second == pytest.approx(100)  # cartpole acts every 10 ms


def test_the_seconds_of_rendering_are_counted(env):
    assert env.render_s == 0
    env.reset()
    assert 0 < env.render_s < 10


def test_an_unknown_task_is_refused_with_the_closest():
    with pytest.raises(UnknownTask, match="did you mean walker_walk"):
        make_env(config("walker_wlk"), seed=0)


def test_where_nothing_renders_the_packages_are_named(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_TRY", "raise ImportError('no library')")
    with pytest.raises(UnsupportedEnvironment, match=r"egl: ImportError: no library.*libosmesa6"):
        rendering.choose_renderer()


def test_the_first_renderer_that_works_is_chosen_and_a_named_one_is_kept(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    only = "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'"
    monkeypatch.setattr(rendering, "_TRY", only)
    rendering.choose_renderer()
    assert rendering.os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setattr(rendering, "_TRY", "raise ImportError")
    rendering.choose_renderer()


def test_a_simulator_that_fails_to_close_is_a_crash_of_its_name(env, monkeypatch):
    monkeypatch.setattr(env._env, "close", lambda: 1 / 0)
    with pytest.raises(EnvironmentCrashed, match="cartpole_balance raised ZeroDivisionError"):
        env.close()
    monkeypatch.undo()
