"""A trained policy outside its run takes the actions that it takes in it, from what users hold."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_core import Policy
from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.envs.suites import environment_spec, make_env
from dreamer_core.errors import BadInput
from dreamer_core.presets import preset
from dreamer_core.run.evaluation import evaluate_run
from dreamer_core.run.trainer import Trainer
from dreamer_core.storage.run_directory import open_run
from tests.core.small import CATCH, changed
from tests.learning.catch import make_env as make_catch

CONFIG = changed(preset("debug"), CATCH)


class Steer(gymnasium.Env):
    """A colour image of odd size; a bounded action, of which the reward is the first number."""

    observation_space = spaces.Box(0, 255, (70, 90, 3), np.uint8)
    action_space = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.draw(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return self.draw(), float(action[0]), self.steps == 5, False, {}

    def draw(self):
        return self.np_random.integers(0, 256, (70, 90, 3), np.uint8)


def make_run(run_dir, config, *steps):
    """A run of untrained checkpoints at these gradient steps, each of weights of its own."""
    with open_run(run_dir, config) as paths:
        spec = environment_spec(config.env)
        trainer = Trainer(config, spec, paths.checkpoints)
        for step in steps:
            seeded = dataclasses.replace(config, seed=step)
            trainer.agent.load_state({**DreamerAgent(seeded, spec).state(), "gradient_step": step})
            trainer.save(policy_step=4 * step)
    return run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("acting") / "run", CONFIG, 5, 8)


def played(policy, env, episodes=2, seed=3):
    """Returns of episodes that are played through the user's own environment, and its actions."""
    returns, actions = [], []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        policy.reset()
        returns.append(0.0)
        is_over = False
        while not is_over:
            actions.append(policy.act(observation))
            observation, reward, terminated, truncated, _ = env.step(actions[-1])
            returns[-1] += float(reward)
            is_over = terminated or truncated
    return returns, np.array(actions)


def evaluated(run_dir, seed=3, mode="greedy"):
    played = evaluate_run(run_dir, episodes=2, mode=mode, video=None, seed=seed)
    return [episode.episode_return for episode in played]


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_in_the_users_own_loop_it_plays_what_eval_plays(run_dir, mode):
    policy = Policy.load(run_dir, mode=mode, seed=3)
    assert played(policy, make_catch())[0] == evaluated(run_dir, mode=mode)


def test_images_of_any_size_and_bounded_actions_are_those_of_the_environment(tmp_path):
    task = {**CATCH, "env.task": "tests.core.run.test_acting:Steer"}
    run_dir = make_run(tmp_path / "run", changed(preset("debug"), task), 1)
    returns, actions = played(Policy.load(run_dir, seed=3, mode="sample"), Steer())
    assert returns == pytest.approx(evaluated(run_dir, mode="sample"))
    assert actions.dtype == np.float32 and actions[:, 1].max() > 2


def test_a_checkpoint_is_named_by_run_place_step_or_file(run_dir):
    checkpoints = run_dir / "checkpoints"
    (blob,) = (checkpoints / f"{5:012d}").glob("tensors-*.pt")
    newest, older = (run_dir, str(checkpoints), checkpoints / f"{8:012d}"), (blob.parent, blob)
    last = [played(Policy.load(name), make_catch())[1].tolist() for name in newest]
    first = [played(Policy.load(name), make_catch())[1].tolist() for name in older]
    asked = played(Policy.load(run_dir, step=5), make_catch())[1].tolist()
    assert last[0] == last[1] == last[2] != asked == first[0] == first[1]


def test_a_checkpoint_is_loaded_from_a_url(run_dir, tmp_path):
    url = f"file://{run_dir}/checkpoints"
    actions = [played(Policy.load(name), make_catch())[1].tolist() for name in (url, run_dir)]
    assert actions[0] == actions[1]
    assert played(Policy.load(f"{url}/{5:012d}"), make_catch())[1].tolist() != actions[0]


@pytest.mark.parametrize(
    ("name", "step", "words"),
    [
        ("nowhere", None, "there is no"),
        ("run/replay", None, "holds no checkpoint"),
        ("run", 7, r"no checkpoint 7 in .*there are \[8, 5\]"),
        (f"run/checkpoints/{5:012d}", 8, "name one of them"),
    ],
)
def test_what_holds_no_such_checkpoint_is_refused(run_dir, name, step, words):
    (run_dir / "replay").mkdir(exist_ok=True)
    with pytest.raises(BadInput, match=words):
        Policy.load(run_dir.parent / name, step=step)


def test_an_environment_of_the_same_spaces_may_be_given_and_no_other(tmp_path):
    run_dir = make_run(tmp_path / "run", CONFIG, 1)
    with pytest.raises(BadInput, match="The agent was trained with"):
        Policy.load(run_dir, env=Steer())
    assert Policy.load(run_dir, env=make_catch()).act(make_catch().reset(seed=0)[0]) in range(3)


def test_a_mode_that_is_none_is_refused(run_dir):
    with pytest.raises(BadInput, match="mode='best' must be one of sample, greedy"):
        Policy.load(run_dir, mode="best")


def test_an_observation_unlike_the_declared_one_is_refused(run_dir):
    with pytest.raises(BadInput, match="declares a uint8 image"):
        Policy.load(run_dir).act(np.zeros((10, 10), np.uint8))


def test_atari_needs_no_environment_and_takes_the_emulators_screens(tmp_path):
    config = changed(preset("debug"), {"learner.device": "cpu"})
    policy = Policy.load(make_run(tmp_path / "run", config, 1), seed=1)
    env = make_env(config.env, seed=1)
    env.reset()
    colour = env.screen()
    assert policy.act(colour) in range(18)
    policy.reset()
    gray = policy.act(colour[..., 0])
    policy.reset()
    assert gray == policy.act(colour[None, ..., 0])
    for wrong in (np.zeros((210, 160), np.float32), np.zeros((3, 3), np.uint8), "noise"):
        with pytest.raises(BadInput, match="Wanted a uint8 image of pong"):
            policy.act(wrong)
