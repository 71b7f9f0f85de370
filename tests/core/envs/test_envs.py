"""The Atari protocol (DreamerV2, sec. 3), checked against an emulator played frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer_core.config import EnvConfig
from dreamer_core.envs.atari import find_rom
from dreamer_core.envs.base import Environment, EnvStep, UnknownTask, UnsupportedEnvironment
from dreamer_core.envs.base import resize_image as resize
from dreamer_core.envs.suites import make_env
from dreamer_core.types import FloatArray
from tests.core.envs import make_golden_atari_frames as slow

NOOP, RIGHT = 0, 3
PAPER_GAMES = [
    "alien",
    "amidar",
    "assault",
    "asterix",
    "asteroids",
    "atlantis",
    "bank_heist",
    "battle_zone",
    "beam_rider",
    "berzerk",
    "bowling",
    "boxing",
    "breakout",
    "centipede",
    "chopper_command",
    "crazy_climber",
    "demon_attack",
    "double_dunk",
    "enduro",
    "fishing_derby",
    "freeway",
    "frostbite",
    "gopher",
    "gravitar",
    "hero",
    "ice_hockey",
    "jamesbond",
    "kangaroo",
    "krull",
    "kung_fu_master",
    "montezuma_revenge",
    "ms_pacman",
    "name_this_game",
    "phoenix",
    "pitfall",
    "pong",
    "private_eye",
    "qbert",
    "riverraid",
    "road_runner",
    "robotank",
    "seaquest",
    "skiing",
    "solaris",
    "space_invaders",
    "star_gunner",
    "tennis",
    "time_pilot",
    "tutankham",
    "up_n_down",
    "venture",
    "video_pinball",
    "wizard_of_wor",
    "yars_revenge",
    "zaxxon",
]
"""The 55 games of the paper's table K.1."""
RANDOM_ACTIONS = np.random.default_rng(0).integers(18, size=1000).tolist()


def atari(task: str, seed: int = slow.SEED, **fields: Any) -> Environment:
    return make_env(EnvConfig(task=task, **fields), seed)


def one_hot(index: int) -> FloatArray:
    return np.eye(18, dtype=np.float32)[index]


def play(env: Environment, actions: list[int]) -> list[EnvStep]:
    steps = [env.reset()]
    for action in actions:
        steps.append(env.step(one_hot(action)))
        if steps[-1].is_last:
            break
    return steps


@pytest.mark.parametrize("game", slow.GAMES)
def test_images_and_rewards_equal_the_golden_file(game: str):
    golden = np.load(slow.GOLDEN)
    steps = play(atari(game), slow.golden_actions())
    images = np.stack([step.image[..., 0] for step in steps[:: slow.KEEP_EVERY]])
    assert np.abs(images.astype(int) - golden[f"{game}_image"]).max() <= 1
    assert [step.reward for step in steps] == golden[f"{game}_reward"].tolist()


@pytest.mark.parametrize("game", ["asteroids", "pong", "seaquest", "carnival"])
def test_images_are_the_averaged_maximum_of_the_last_two_of_four_frames(game: str):
    actions = RANDOM_ACTIONS[:60]
    fast, reference = play(atari(game), actions), slow.play_slowly(game, actions)
    for step, slow_step in zip(fast, reference, strict=True):
        assert np.abs(step.image[..., 0] - slow_step.image).max() <= 1
        assert step.reward == slow_step.reward
    frames = [step.episode_frames for step in reference]
    assert set(np.diff(frames)) == {4}


def test_the_maximum_over_two_screens_brings_back_objects_that_flicker():
    reference = slow.play_slowly("asteroids", RANDOM_ACTIONS[:60])
    flickers = [
        np.abs(step.image - slow.area_average(step.last_screen)).max() > 20 for step in reference
    ]
    assert sum(flickers) > 10


def test_breakout_ends_when_the_game_is_over_and_not_when_a_life_is_lost():
    fast = play(atari("breakout"), RANDOM_ACTIONS)
    reference = slow.play_slowly("breakout", RANDOM_ACTIONS)
    assert [step.is_terminal for step in fast] == [step.is_game_over for step in reference]
    assert [step.is_last for step in fast] == [step.is_terminal for step in fast]
    assert fast[-1].is_terminal
    assert {step.lives for step in reference} >= {5, 4, 3, 2, 1}
    assert np.abs(fast[-1].image[..., 0] - reference[-1].image).max() <= 1


def test_a_time_limit_ends_the_episode_without_being_terminal():
    steps = play(atari("pong", time_limit_steps=7), [NOOP] * 20)
    assert [step.is_last for step in steps] == [False] * 7 + [True]
    assert not any(step.is_terminal for step in steps)


def test_without_a_time_limit_the_episode_goes_on():
    steps = play(atari("pong", time_limit_steps=None), [NOOP] * 20)
    assert len(steps) == 21 and not steps[-1].is_last


def share_of_presses_that_are_swallowed(presses: int, **fields: Any) -> float:
    """Breakout stands still until the paddle moves, so a press that was swallowed shows."""
    env = atari("breakout", max_noops=0, **fields)
    still = env.reset().image
    swallowed = 0
    for _ in range(presses):
        env.reset()
        env.step(one_hot(RIGHT))
        swallowed += all(np.array_equal(env.step(one_hot(NOOP)).image, still) for _ in range(8))
    return swallowed / presses


def test_a_sticky_frame_repeats_the_previous_action_a_quarter_of_the_time():
    share = share_of_presses_that_are_swallowed(200, action_repeat=1)
    assert share == pytest.approx(0.25, abs=0.08)


def test_sticky_actions_are_drawn_per_frame_and_not_per_policy_step():
    share = share_of_presses_that_are_swallowed(100, action_repeat=4)
    assert share <= 0.04  # expected 0.25 ** 4


def test_no_press_is_swallowed_without_sticky_actions():
    fields = {"action_repeat": 1, "sticky_action_probability": 0.0}
    assert share_of_presses_that_are_swallowed(30, **fields) == 0


def test_resets_let_0_to_30_frames_pass():
    ale = slow.slow_ale("star_gunner", slow.SEED)
    ale.reset_game()
    still: list[Any] = []
    for _ in range(40):
        still.append(slow.area_average(ale.getScreenGrayscale()))
        ale.act(NOOP)
    env = atari("star_gunner", sticky_action_probability=0.0)
    images = [env.reset().image[..., 0] for _ in range(200)]
    noops = [int(np.argmin([np.abs(image - other).max() for other in still])) for image in images]
    assert set(noops) == set(range(31))


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others():
    env, same, other = atari("pong"), atari("pong"), atari("pong", seed=slow.SEED + 1)
    for _ in range(2):
        frames = [
            np.stack([step.image for step in play(each, RANDOM_ACTIONS[:50])])
            for each in (env, same, other)
        ]
        assert np.array_equal(frames[0], frames[1])
        assert not np.array_equal(frames[0], frames[2])


@pytest.mark.parametrize("game", ["pong", "breakout", "montezuma_revenge", "seaquest"])
def test_a_restored_emulator_plays_on_as_the_one_that_was_never_stopped(game: str):
    env = atari(game, time_limit_steps=150)
    play(env, RANDOM_ACTIONS[:60])
    other = atari(game, seed=slow.SEED + 1, time_limit_steps=150)
    other.restore(env.state())
    for action in RANDOM_ACTIONS[60:160]:
        a, b = env.step(one_hot(action)), other.step(one_hot(action))
        assert np.array_equal(a.image, b.image)
        assert (a.reward, a.is_last) == (b.reward, b.is_last)
        if a.is_last:
            break
    for a, b in zip(*(play(each, RANDOM_ACTIONS[:40]) for each in (env, other)), strict=True):
        assert np.array_equal(a.image, b.image)


def test_a_state_of_another_game_is_refused():
    with pytest.raises(ValueError, match="Wanted a state of pong, got one of breakout"):
        atari("pong").restore(atari("breakout").state())


@pytest.mark.parametrize("game", ["pong", "skiing", "breakout", "ms_pacman"])
def test_every_game_offers_all_18_actions(game: str):
    env = atari(game)
    assert env.spec.action_size == 18
    assert env.spec.action_names is not None
    assert env.spec.action_names[:4] == ("NOOP", "FIRE", "UP", "RIGHT")
    assert not play(env, list(range(18)))[-1].is_last


def test_colour_images_have_three_channels():
    env = atari("pong", is_grayscale=False)
    image = env.reset().image
    assert env.spec.image_shape == image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.std(axis=-1).max() > 10
    assert env.step(one_hot(NOOP)).image.shape == (64, 64, 3)


def test_the_screen_is_the_consoles_own_in_colour_whatever_the_agent_sees():
    env = atari("boxing")
    first = env.reset().image
    screen = env.screen()
    assert screen.shape == (210, 160, 3) and screen.std(axis=-1).max() > 10
    assert first.shape == (64, 64, 1)


def test_images_of_earlier_steps_stay_as_they_were():
    env = atari("boxing")
    first = env.reset().image
    kept = first.copy()
    for action in RANDOM_ACTIONS[:20]:
        env.step(one_hot(action))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    "action",
    [
        np.zeros(18, np.float32),
        np.full(18, 1 / 18, np.float32),
        np.full(18, np.nan, np.float32),
        np.ones(18, np.float32),
        one_hot(1) * 2,
        one_hot(1)[:17],
        one_hot(1)[None],
    ],
)
def test_an_action_that_is_not_one_hot_is_refused(action: FloatArray):
    env = atari("pong")
    env.reset()
    with pytest.raises(ValueError, match="one-hot vector of shape \\(18,\\)"):
        env.step(action)


def test_a_step_outside_an_episode_is_refused():
    env = atari("pong", time_limit_steps=1)
    with pytest.raises(ValueError, match="call reset first"):
        env.step(one_hot(NOOP))
    assert play(env, [NOOP])[-1].is_last
    with pytest.raises(ValueError, match="call reset first"):
        env.step(one_hot(NOOP))
    env.reset()
    env.close()
    with pytest.raises(ValueError, match="call reset first"):
        env.step(one_hot(NOOP))


def test_all_games_of_the_paper_are_found_by_their_name():
    assert len(PAPER_GAMES) == 55
    assert [find_rom(game) for game in PAPER_GAMES] == PAPER_GAMES


@pytest.mark.parametrize(
    ("spelling", "rom"),
    [
        ("Pong", "pong"),
        ("MsPacman", "ms_pacman"),
        ("Ms. Pacman", "ms_pacman"),
        ("H.E.R.O.", "hero"),
        ("James Bond", "jamesbond"),
        ("YarsRevenge", "yars_revenge"),
    ],
)
def test_games_are_found_however_they_are_spelled(spelling: str, rom: str):
    assert find_rom(spelling) == rom


def test_an_unknown_game_is_answered_with_the_closest_names():
    with pytest.raises(UnknownTask, match=r"'brekout' is not a game .* breakout"):
        atari("brekout")


def test_a_game_for_two_players_is_refused():
    with pytest.raises(UnsupportedEnvironment, match="only playable by two"):
        atari("combat")


@pytest.mark.parametrize(("height", "width"), [(210, 160), (64, 100), (65, 64), (128, 128)])
def test_shrinking_averages_over_area(height: int, width: int):
    image = np.random.default_rng(0).integers(256, size=(height, width)).astype(np.uint8)
    assert np.abs(resize(image)[..., 0] - slow.area_average(image)).max() <= 1


def test_enlarging_repeats_pixels_and_64_by_64_is_left_alone():
    small = np.arange(32 * 16, dtype=np.uint8).reshape(32, 16)
    assert np.array_equal(resize(small)[..., 0], small.repeat(2, 0).repeat(4, 1))
    exact = np.random.default_rng(0).integers(256, size=(64, 64, 3)).astype(np.uint8)
    resized = resize(exact)
    assert np.array_equal(resized, exact) and not np.shares_memory(resized, exact)


def test_an_image_that_shrinks_one_way_and_grows_the_other_keeps_both_rules():
    image = np.zeros((128, 32), np.uint8)
    image[::2] = 100
    assert (resize(image) == 50).all()
