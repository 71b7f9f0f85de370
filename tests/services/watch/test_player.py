"""The player's orders and messages."""

import itertools
import json
import os
import threading
import time

import numpy as np
import pytest

from dreamer_core.agent.agent import DreamerAgent
from dreamer_core.agent.policy import PolicyNetwork
from dreamer_core.run.dream import watch_episode
from services.watch.orders import Choice, Order, Orders
from services.watch.pace import Pace
from services.watch.player import StillPicture, _frame
from tests.core.counting_env import CountingEnvironment
from tests.core.small import small

PLAY = Order(is_looked_at=True).encode()
PAUSE = Order(is_looked_at=True, choice=Choice(is_paused=True)).encode()
LEAVE = Order(is_looked_at=False).encode()


@pytest.fixture
def pipe():
    """(reading end, writing end)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def first_message(**options):
    env, config = CountingEnvironment(3, **options), small("debug")
    agent, policy = DreamerAgent(config, env.spec), PolicyNetwork(config, env.spec)
    policy.load(agent.snapshot())
    moment = next(watch_episode(env, policy, agent, mode="greedy", words=(0,)))
    return json.loads(json.dumps(_frame(moment, env.spec, gamma=0.99), allow_nan=False))


def test_a_game_that_is_ordered_goes_on_when_the_next_step_is_due(pipe):
    os.write(pipe[1], PLAY)
    began_s = time.monotonic()
    Orders(pipe[0]).wait(began_s + 0.1)
    assert 0.1 <= time.monotonic() - began_s < 60


@pytest.mark.parametrize("order", [PAUSE, LEAVE])
def test_a_game_that_is_paused_or_not_looked_at_waits_for_an_order_and_takes_the_newest(
    pipe, order
):
    os.write(pipe[1], PLAY + order)
    began_s = time.monotonic()
    threading.Timer(0.2, os.write, (pipe[1], PLAY)).start()
    went_on_s = Orders(pipe[0]).wait(began_s)
    assert time.monotonic() >= went_on_s >= began_s + 0.2


def test_an_order_that_comes_in_two_parts_counts_once_it_is_whole(pipe):
    orders = Orders(pipe[0])
    fast = Order(is_looked_at=True, choice=Choice(speed=4.0)).encode()
    os.write(pipe[1], PLAY + fast[:9])
    orders.wait(time.monotonic())
    assert orders.choice.speed == 1.0
    os.write(pipe[1], fast[9:])
    orders.wait(time.monotonic())
    assert orders.choice == Choice(speed=4.0)


@pytest.mark.parametrize("choice", [Choice(speed=4.0), Choice(mode="sample"), Choice(checkpoint=7)])
def test_another_choice_wakes_a_game_that_is_played_slowly(pipe, choice):
    os.write(pipe[1], PLAY)
    order = Order(is_looked_at=True, choice=choice).encode()
    began_s = time.monotonic()
    threading.Timer(0.1, os.write, (pipe[1], order)).start()
    went_on_s = Orders(pipe[0]).wait(began_s + 100)
    assert time.monotonic() >= went_on_s >= began_s + 0.1


def test_a_game_is_slower_than_asked_by_what_its_steps_take(pipe):
    pace = Pace(Orders(pipe[0]), real_speed=100.0)
    os.write(pipe[1], PLAY)
    for _ in range(6):
        time.sleep(0.02)
        pace.wait()
    assert pace.wanted_speed == 100.0
    assert pace.step_s >= 0.02 and pace.step_cpu_s < 0.01


def test_always_the_same_picture_costs_what_the_pictures_vary():
    still = StillPicture()
    for brightness in (0, 255):
        still.add(np.full((64, 64, 1), brightness, np.uint8))
    assert still.error == pytest.approx(0.25)


def test_orders_that_end_end_the_player():
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(EOFError):
        Orders(reading).wait(time.monotonic())
    os.close(reading)


def test_discrete_actions_are_told_by_index_and_probability():
    message = first_message(is_discrete=True)
    assert message["action"] == int(np.argmax(message["preference"]))
    assert sum(message["preference"]) == pytest.approx(1, abs=1e-3)
    assert message["action_names"] == ["action 0", "action 1", "action 2"]
    assert len(message["imagined_action"]) == 15


def test_several_choices_are_told_by_the_index_of_each():
    message = first_message(is_discrete=True, classes=(2, 3))
    first, second = message["preference"][:2], message["preference"][2:]
    assert message["action"] == [int(np.argmax(first)), 2 + int(np.argmax(second))]
    assert sum(first) == pytest.approx(1, abs=1e-3) and sum(second) == pytest.approx(1, abs=1e-3)
    assert message["action_names"] == ["0: 0", "0: 1", "1: 0", "1: 1", "1: 2"]
    assert all(len(action) == 2 for action in message["imagined_action"])


def test_continuous_actions_are_told_by_value():
    message = first_message(is_discrete=False)
    assert not message["is_discrete"]
    assert message["action"] == message["preference"]
    assert all(len(action) == 2 for action in message["imagined_action"])


def test_what_is_dreamed_fades_with_the_chance_that_the_episode_goes_on():
    lives_on = first_message(is_discrete=True)["lives_on"]
    assert all(0 <= later <= sooner <= 1 for sooner, later in itertools.pairwise(lives_on))
