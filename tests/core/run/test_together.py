"""Collecting while a device trains, as a card does, here on a CPU: the same run every time."""

import itertools

import pytest
import torch

from dreamer_core.envs import process
from dreamer_core.run import local
from dreamer_core.run.local import train_local
from dreamer_core.run.progress import Pulse
from tests.core.run.test_train_local import GRADIENT_STEPS, PONG, STEPS, run
from tests.core.small import changed

PRETRAINED = changed(
    PONG,
    {
        "schedule.pretrain_gradient_steps": 8,
        "schedule.publish_interval_gradient_steps": 3,
        "steps": 110,
    },
)


@pytest.fixture(autouse=True)
def together(monkeypatch):
    monkeypatch.setattr(local, "works_together", lambda _device: True)
    monkeypatch.setattr(Pulse, "interval_s", 0.0)


def test_it_takes_the_exact_counts_and_the_same_losses_each_time(tmp_path):
    (result, tape), (_, again) = run(tmp_path / "one"), run(tmp_path / "two")
    assert (result.policy_steps, result.gradient_steps) == (STEPS, GRADIENT_STEPS)
    assert len(tape.losses) == GRADIENT_STEPS
    assert tape.losses == again.losses


def test_it_takes_turns_with_an_environment_that_has_a_default_dtype_of_its_own(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(process, "_theirs", {"dtype": torch.float64})
    _, tape = run(tmp_path / "own")
    monkeypatch.setattr(process, "_theirs", {})
    monkeypatch.setattr(local, "works_together", lambda _device: False)
    _, turns = run(tmp_path / "turns")
    assert tape.losses == turns.losses


@pytest.mark.parametrize(("config", "numbers"), [(PONG, (1, 3, 8)), (PRETRAINED, (2, 5, 13))])
def test_it_goes_on_exactly_wherever_it_was_stopped(tmp_path, config, numbers):
    _, whole = run(tmp_path / "whole", config)
    for number in numbers:  # before, in and after all kinds of steps
        count, losses = itertools.count(), []
        for _ in range(2):

            def observe(report, _policy_step, _gradient_step, losses=losses):
                if report.service == "learner" and "dreamer_actor_loss" in report.values:
                    names = [n for n in report.values if "_loss" in n or "_norm" in n]
                    losses.append([report.values[name] for name in sorted(names)])

            def stops(count=count, number=number):
                return next(count) == number

            train_local(config, tmp_path / str(number), observe=observe, should_stop=stops)
        assert losses == whole.losses, number


def test_what_goes_wrong_while_it_trains_ends_the_run(tmp_path, monkeypatch):
    def fail(*_arguments, **_keywords):
        raise RuntimeError("the device broke")

    monkeypatch.setattr(local.Trainer, "train", fail)
    with pytest.raises(RuntimeError, match="the device broke"):
        run(tmp_path)
