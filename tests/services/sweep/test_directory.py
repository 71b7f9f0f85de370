"""The directory of a sweep: scores, what is done, and what is refused."""

import json
import os
from dataclasses import replace

import pytest

from dreamer_core.fields import to_dict
from dreamer_core.presets import preset
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths
from services.sweep.directory import Score, by_game, open_sweep, read_score
from services.sweep.plan import (
    RunKey,
)
from tests.services.sweep.parts import DEBUG, PONG_1, plan


def score(key=PONG_1, mean=1.0, steps=200):
    return Score(game=key.game, seed=key.seed, steps=steps, policy_steps=steps,
                 env_frames=4 * steps, evaluation_return=mean, evaluation_episodes=3,
                 training_return=-1.0, training_episodes=4)  # fmt: skip


def found_score(tmp_path, steps=2000):
    return read_score(tmp_path / "pong_1", PONG_1, steps=steps, mode="greedy")


def make_run(directory, key):
    directory.run_dir(key).mkdir()
    RunPaths(directory.run_dir(key)).config.write_text("{}")


def test_a_score_is_the_mean_of_the_last_ten_evaluations_and_beside_it_of_training(tmp_path, log):
    log(10, *[1000.0] * 5)
    log(500, 9999.0, service="evaluator")
    log(1000, *range(100))
    log(1000, *range(100))  # a resume repeats them
    log(1500, *range(4), service="evaluator")
    log(2000, *range(6), service="evaluator")
    found = found_score(tmp_path)
    assert (found.evaluation_return, found.evaluation_episodes) == ((6 + 15) / 10, 10)
    assert (found.training_return, found.training_episodes) == (sum(range(100)) / 100, 100)
    assert (found.policy_steps, found.env_frames) == (2000, 8000)


def test_a_damaged_line_is_left_out_of_the_score_with_a_warning(tmp_path, log, caplog):
    log(10, 3.0)
    with (tmp_path / "pong_1" / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    log(20, 5.0)
    found = found_score(tmp_path)
    assert (found.training_return, found.training_episodes) == (4.0, 2)
    assert found.evaluation_return is None
    assert "leaves out 1 lines" in caplog.text and "metrics.jsonl:2" in caplog.text


def test_a_run_without_an_episode_or_without_metrics_has_no_score(tmp_path, log):
    log(10, policy_steps_per_second=1.0)
    assert found_score(tmp_path).training_return is None
    assert read_score(tmp_path / "none", PONG_1, steps=10, mode="greedy").policy_steps == 10


def test_what_is_done_stays_done_and_a_run_that_was_deleted_does_not(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        for seed in (1, 0):
            make_run(directory, RunKey("pong", seed))
            directory.record(score(RunKey("pong", seed), mean=float(seed)))
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        assert [str(key) for key in directory.finished()] == ["pong 0", "pong 1"]
        RunPaths(directory.run_dir(PONG_1)).config.unlink()
        assert [str(key) for key in directory.finished()] == ["pong 0"]
    saved = json.loads((tmp_path / "sweep" / "scores.json").read_text())
    assert saved["games"] == {
        "pong": {
            "steps": 200,
            "evaluation": {"seeds": 2, "mean_return": 0.5},
            "training": {"seeds": 2, "mean_return": -1.0},
        }
    }
    assert [run["seed"] for run in saved["runs"]] == [0, 1]


def test_each_score_says_what_it_is_a_score_of(tmp_path, caplog):
    """The sweep may evaluate otherwise once it is resumed; a run keeps what it was trained with."""
    evaluated = preset("atari_tiny")
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        for key, config in ((PONG_1, evaluated), (RunKey("pong", 0), preset("debug"))):
            make_run(directory, key)
            RunPaths(directory.run_dir(key)).config.write_text(json.dumps(to_dict(config)))
            directory.record(score(key))
        stamps = json.loads(directory.scores.read_text())["stamps"]
        RunPaths(directory.run_dir(PONG_1)).config.write_text("x")
        directory.record(score(RunKey("pong", 0)))
    assert (stamps["pong_1"]["preset"], stamps["pong_1"]["mode"]) == ("atari_tiny", "greedy")
    interval_frames = stamps["pong_1"]["evaluation_interval_frames"]
    assert interval_frames == evaluated.evaluation.interval_frames
    assert stamps["pong_0"]["preset"] == "debug" and "mode" not in stamps["pong_0"]
    assert stamps["pong_0"]["sticky_action_probability"] == 0.25
    assert json.loads(directory.scores.read_text())["stamps"]["pong_1"] == {}
    assert "pong 1: its protocol is not written down" in caplog.text


def test_a_game_whose_runs_have_no_score_has_no_mean():
    both = by_game([score(mean=None), score(RunKey("pong", 2), mean=3.0)])["pong"]
    assert both["evaluation"] == {"seeds": 1, "mean_return": 3.0}
    none = by_game([score(mean=None)])["pong"]
    assert none["evaluation"] == {"seeds": 0, "mean_return": None}


def test_only_seeds_that_were_trained_as_long_as_the_longest_are_averaged():
    short, long = score(), score(RunKey("pong", 2), mean=5.0, steps=400)
    game = by_game([short, long])["pong"]
    assert (game["steps"], game["evaluation"]) == (400, {"seeds": 1, "mean_return": 5.0})


def test_scores_of_before_there_were_evaluations_are_read_anew(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        make_run(directory, PONG_1)
        old = {"game": "pong", "seed": 1, "steps": 200, "policy_steps": 200, "env_frames": 800}
        runs = [{**old, "mean_return": 1.0, "episodes": 3}]
        directory.scores.write_text(json.dumps({"games": {}, "runs": runs}))
        assert directory.finished() == {}


def test_more_games_seeds_and_steps_may_come_later_and_the_id_stays(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        first = directory.sweep_id()
    more = plan("pong", "hero", seeds=(0, 1, 2), config=replace(DEBUG, steps=400))
    with open_sweep(tmp_path / "sweep", more) as directory:
        assert directory.sweep_id() == first
        assert json.loads(directory.marker.read_text())["games"] == ["pong", "hero"]


def test_other_settings_are_refused_with_what_differs_and_nothing_is_changed(tmp_path):
    with open_sweep(tmp_path / "sweep", plan()) as directory:
        before = directory.marker.read_text()
    other = replace(DEBUG, behavior=replace(DEBUG.behavior, horizon=7))
    refused = pytest.raises(RunDirectoryError, match=r"behavior.horizon=4 there, 7 asked for")
    with refused, open_sweep(tmp_path / "sweep", plan(config=other)):
        pass
    assert (tmp_path / "sweep" / "sweep.json").read_text() == before


def test_a_second_sweep_on_a_directory_is_refused_with_the_holders_name(tmp_path):
    refused = pytest.raises(RunDirectoryError, match=rf"process {os.getpid()} on .*--sweep-dir")
    with open_sweep(tmp_path, plan()), refused, open_sweep(tmp_path, plan()):
        pass


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match=r"thesis.tex.*--sweep-dir"):
        open_sweep(tmp_path, plan()).__enter__()


@pytest.mark.parametrize("name", ["sweep.json", "scores.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    with open_sweep(tmp_path, plan()) as directory:
        directory.record(score())
    (tmp_path / name).write_text("{")
    with pytest.raises(RunDirectoryError, match=name), open_sweep(tmp_path, plan()) as directory:
        directory.finished()
