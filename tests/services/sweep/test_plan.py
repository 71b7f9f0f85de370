"""What a sweep trains: games, seeds, and the command of each run."""

from dataclasses import replace
from pathlib import Path

import pytest

from dreamer_core.envs.base import UnknownTask
from dreamer_core.envs.games import PAPER_GAMES
from dreamer_core.errors import BadInput
from dreamer_core.presets import preset
from services.cli.options import LocalCommand, with_preset
from services.sweep.command import SweepCommand
from services.sweep.directory import open_sweep
from services.sweep.games import choose_games
from services.sweep.plan import local_command, refuse_options_of_one_run
from tests.commands import exit_code_of
from tests.services.sweep.parts import DEBUG, PONG_1, plan


def test_every_game_is_trained_once_before_any_is_trained_twice():
    assert [str(key) for key in plan().keys] == ["pong 0", "boxing 0", "pong 1", "boxing 1"]


def test_a_run_has_its_game_its_seed_and_its_own_place_for_checkpoints():
    url = replace(DEBUG, checkpoint=replace(DEBUG.checkpoint, url="s3://bucket/sweep/"))
    config = plan(config=url).config_of(PONG_1)
    assert (config.env.task, config.seed) == ("pong", 1)
    assert config.checkpoint.url == "s3://bucket/sweep/pong_1"
    assert plan().config_of(PONG_1).checkpoint.url is None


def test_checkpoints_in_the_memory_of_a_process_are_refused():
    config = replace(DEBUG, checkpoint=replace(DEBUG.checkpoint, url="memory://sweep"))
    with pytest.raises(ValueError, match=r"memory://sweep.*s3://"):
        plan(config=config)


def test_all_are_the_games_of_the_paper_and_none_named_is_the_presets_own():
    assert choose_games("all", DEBUG) == PAPER_GAMES
    assert choose_games(None, preset("montezuma")) == ("montezuma_revenge",)


def test_a_game_spelled_twice_is_one_run_directory():
    assert choose_games("MsPacman, ms_pacman,pong", DEBUG) == ("ms_pacman", "pong")


def test_games_that_are_given_and_are_none_are_not_the_presets_own():
    with pytest.raises(BadInput, match="--games '' names no game"):
        choose_games("", DEBUG)


@pytest.mark.parametrize("games", ["pong,breakoutt", "no.such:env"])
def test_an_unknown_game_is_refused_by_name(games):
    with pytest.raises(UnknownTask, match=games.split(",")[-1]):
        choose_games(games, DEBUG)


def test_all_is_refused_for_what_is_not_atari_and_nothing_for_what_names_nothing():
    other = replace(DEBUG, env=replace(DEBUG.env, suite="gymnasium"))
    with pytest.raises(ValueError, match=r"55 Atari games.*gymnasium"):
        choose_games("all", other)
    with pytest.raises(ValueError, match="names no game"):
        choose_games(" , ", DEBUG)


def test_environments_that_would_share_a_directory_are_refused():
    with pytest.raises(ValueError, match="share a run directory"):
        plan("catch.fast:make", "catch_fast:make")


@pytest.mark.parametrize("option", ["--env.task", "--seed", "--run-dir"])
def test_options_of_one_run_are_refused_with_what_to_write_instead(option):
    for arguments in ([option, "3"], [f"{option}=3"]):
        with pytest.raises(ValueError, match=rf"{option} cannot be set for a sweep.*name"):
            refuse_options_of_one_run(["debug", *arguments])


@pytest.mark.parametrize("name", ["atari", "atari_tiny", "montezuma", "gymnasium_tiny"])
def test_the_command_of_a_run_gives_exactly_its_config(name):
    config = replace(preset(name), seed=3, steps=77)
    config = replace(
        config,
        env=replace(
            config.env,
            time_limit_steps=None,
            is_grayscale=False,
            task="a.b:make",
            suite="gymnasium",
            log_info=("episode/r", "success"),
        ),
        behavior=replace(config.behavior, lambda_=0.9, entropy_scale_end=1e-05),
        world_model=replace(config.world_model, has_layer_norm=False),
        learner=replace(config.learner, device="cuda"),
    )
    _, *arguments = local_command(config, Path("/sweep/a b_3"))
    parsed = with_preset(LocalCommand, arguments, "dreamer local PRESET")
    assert parsed.config == config
    assert parsed.run_dir == Path("/sweep/a b_3")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seeds": 0}, "--seeds 0"),
        ({"first_seed": -1}, "--first-seed -1"),
        ({"runs_at_once": 0}, "--runs-at-once 0"),
        ({"retries": -1}, "--retries -1"),
        ({"cpus_per_run": 0.0}, "--cpus-per-run 0"),
        ({"gpus_per_run": 2.0}, "--gpus-per-run 2"),
        ({"wait_for_nodes": True}, "say --gpus-per-run, 0 for none"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SweepCommand(config=DEBUG, **values)


def test_a_sweep_may_wait_for_nodes_once_it_says_what_its_runs_train_on():
    on_cpu = replace(DEBUG, learner=replace(DEBUG.learner, device="cpu"))
    assert SweepCommand(config=on_cpu, wait_for_nodes=True).gpus_per_run is None
    assert SweepCommand(config=DEBUG, wait_for_nodes=True, gpus_per_run=0).gpus_per_run == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--games", "pong,breakoutt"], "breakoutt"),
        (["--games", "pong", "--env.task", "boxing"], "name them with --games"),
        (["--games", "pong", "--behavior.horizon", "7"], "behavior.horizon=4 there, 7 asked for"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_ray_starts(tmp_path, capsys, options, words):
    with open_sweep(tmp_path, plan("pong")) as directory:
        before = directory.marker.read_text()
    assert exit_code_of("sweep", "debug", "--sweep-dir", tmp_path, *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert directory.marker.read_text() == before
