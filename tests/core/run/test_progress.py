"""Where a run stands: its speeds."""

import pytest

from dreamer_core.run.progress import Speed


def test_a_speed_is_that_of_the_last_30_seconds():
    speed = Speed(0.0, 1_000)  # a run that is resumed
    assert speed.at(2.0, 1_020) == 10
    told = [speed.at(float(now_s), 1_000 + 10 * min(now_s, 60)) for now_s in range(4, 121, 2)]
    assert told[:29] == [10.0] * 29  # until 60 s
    assert told[36] == pytest.approx(10 * 14 / 30)  # at 76 s: since 46 s it moved for 14
    assert told[-1] == 0


def test_a_speed_asked_for_seldom_is_that_since_the_last_time():
    speed = Speed(0.0, 0)
    assert [speed.at(100.0, 100), speed.at(200.0, 300)] == [1.0, 2.0]


def test_a_speed_at_one_instant_or_of_steps_taken_back_is_none():
    speed = Speed(5.0, 100)
    assert speed.at(5.0, 100) == speed.at(6.0, 50) == 0
