"""The learning curve: drawn at every stage of a run."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dreamer_core.errors import BadInput
from dreamer_core.report.curves import (
    _draw_losses,
    _draw_returns,
    plot_learning_curve,
    running_mean,
)
from dreamer_core.report.log import RunLog
from dreamer_core.report.report import EpisodeSummary, Report
from tests.core.report.images import pixels


def write_run(run_dir, *, episodes=0, reports=20, evaluations=0):
    random = np.random.default_rng(0)
    with RunLog(run_dir, frames_per_policy_step=4) as log:
        for i in range(1, reports + 1):
            step = 1000 * i
            values = {
                "dreamer_kl_nats": 2 + 10 / i,
                "dreamer_image_mean_squared_error": 0.05 / i**1.5,
            }
            log.write(
                Report(service="learner", values=values), policy_step=step, gradient_step=250 * i
            )
            for _ in range(episodes // reports):
                end = step - int(random.integers(1000))
                score = -21 + 2 * i + random.normal(0, 3)
                episode = EpisodeSummary(policy_step=end, episode_return=score, length=200)
                log.write(
                    Report(service="collector", episodes=(episode,)),
                    policy_step=step,
                    gradient_step=250 * i,
                )
            if evaluations and i % (reports // evaluations) == 0:
                report = Report(
                    service="evaluator",
                    values={"dreamer_evaluation_return": -20.0 + 2 * i},
                    labels={"mode": "greedy", "weights": "latest"},
                )
                log.write(report, policy_step=step, gradient_step=250 * i)
    return run_dir


def test_the_running_mean_looks_back_only():
    assert running_mean([1.0, 3.0, 5.0, 7.0], window=2) == [1.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize(("episodes", "window"), [(2, 2), (14, 3), (40, 10), (400, 20)])
def test_the_mean_of_a_short_run_is_of_fewer_episodes_so_that_it_shows_what_changes(
    episodes, window
):
    axes = Figure().subplots()
    _draw_returns(axes, [(float(i), float(i)) for i in range(episodes)], [], None)
    line = next(
        each for each in axes.lines if each.get_label() == f"mean of last {window} episodes"
    )
    assert line.get_ydata()[-1] == episodes - 1 - (window - 1) / 2


@pytest.mark.parametrize(
    "run",
    [
        {"episodes": 100, "evaluations": 5},
        {"episodes": 0},
        {"episodes": 0, "evaluations": 1},
        {"reports": 1, "episodes": 1},
        {"reports": 0},
    ],
)
def test_a_learning_curve_is_drawn_at_every_stage_of_a_run(tmp_path, run):
    path = plot_learning_curve(write_run(tmp_path, **run))
    assert path == tmp_path / "learning_curve.png"
    assert pixels(path).shape == (780, 1080, 3)


def test_the_level_of_random_play_is_drawn_where_it_is_known():
    for level, labels in ((12.0, ["episode", "random play"]), (None, ["episode"])):
        axes = Figure().subplots()
        _draw_returns(axes, [(400, 3.0)], [], level)
        assert axes.get_legend_handles_labels()[1] == labels


def test_a_curve_without_losses_says_so_and_has_no_numbers_at_their_axes():
    axes = Figure().subplots()
    _draw_losses(axes, [], [])
    assert [text.get_text() for text in axes.texts] == ["no losses have been reported yet"]
    assert not axes.get_yticks().size


def test_a_learning_curve_needs_a_run(tmp_path):
    with pytest.raises(BadInput, match=r"needs .*metrics\.jsonl"):
        plot_learning_curve(tmp_path)
