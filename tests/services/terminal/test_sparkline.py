"""Returns over a run as bars: where each belongs, and what random play returns."""

import math

from dreamer_core.report.report import EpisodeSummary
from services.terminal.sparkline import WIDTH, ReturnCurve, sparkline


def episode(policy_step, value):
    return EpisodeSummary(policy_step=policy_step, episode_return=value, length=1)


def curve(*episodes, **options):
    total = ReturnCurve(total_policy_steps=100 * WIDTH, **options)
    return total.with_episodes(episode(*one) for one in episodes)


def test_nothing_is_drawn_before_the_first_episode_ends():
    assert sparkline(curve()) is None


def test_each_part_is_the_mean_of_its_episodes_and_a_part_without_one_stays_empty():
    assert curve((10, 1), (90, 3), (250, 8)).means() == [2, None, 8]
    assert str(sparkline(curve((10, 1), (90, 3), (250, 8)))) == "return ▁ █ 8"


def test_the_last_episode_of_a_run_and_one_that_ends_after_it_belong_to_the_last_part():
    assert len(curve((100 * WIDTH, 1), (101 * WIDTH, 3)).means()) == WIDTH
    assert curve((100 * WIDTH, 1), (101 * WIDTH, 3)).means()[-1] == 2


def test_what_random_play_returns_is_known_or_that_of_the_first_steps():
    assert curve((50, -20), (150, -10), random_policy_steps=100).random_return == -20
    known = curve((50, -20), random_policy_steps=100, known_random_return=-21)
    assert known.random_return == -21
    assert str(sparkline(known)) == "return █ -20 (random play -21)"


def test_bars_above_random_play_are_green():
    drawn = sparkline(curve((50, -1), (150, 1), known_random_return=0))
    assert [str(span.style) for span in drawn.spans] == ["dim", "green", "dim"]


def test_a_level_line_and_numbers_that_are_none_draw_no_nonsense():
    assert str(sparkline(curve((50, 2), (150, 2)))) == "return ▁▁ 2"
    assert sparkline(curve((50, math.nan), (150, math.inf))) is None
