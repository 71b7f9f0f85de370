"""What the command line refuses, in one paragraph, before anything is changed."""

import socket

import pytest

from services.cli.commands import NAMES
from tests.commands import SMALL


@pytest.mark.parametrize("command", ["train", "local"])
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["debug", "--env.task", "breakoutt"], ["breakoutt", "breakout"]),
        (["debg"], ["debg", "debug", "dreamer presets"]),
        ([], ["no preset", "atari_tiny"]),
        (["debug", "--env.tusk", "pong"], ["--env.tusk", "--env.task"]),
        (["debug", "--steps", "many"], ["--steps", "many", "whole number"]),
        (["debug", "--steps", "1.5"], ["--steps", "1.5", "whole number"]),
        (["debug", "--learner.device", "gpu"], ["--learner.device", "gpu", "cpu"]),
        (["debug", "--steps", "0"], ["steps=0", "above 0"]),
        (["debug", "--seed", "-1"], ["seed=-1", "0 or more"]),
        (["debug", "--world-model.kl-balance", "1.5"], ["kl_balance=1.5", "between 0 and 1"]),
        (["debug", "--replay.capacity-steps", "10"], ["capacity_steps=10", "raise"]),
        (["debug", "--env.suite", "gymnasium", "--env.task", "Blackjack-v1"], ["image", "Tuple("]),
        (["debug", "--env.suite", "gymnasium", "--env.task", "no.such:env"], ["no", "Install"]),
    ],
)
def test_bad_input_is_refused_in_one_paragraph_that_says_what_came_and_what_to_do(
    refused, command, arguments, parts
):
    message = refused(command, *arguments)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--metrics.port", "70000"], ["--metrics: port=70000", "0 to 65535"]),
        (["--runtime.object-store-bytes", "5"], ["object_store_bytes=5", "raise"]),
        (["--evaluation.interval-frames", "0"], ["interval_frames=0", "above 0"]),
        (["--runtime.ray-address", "head"], ["--runtime: ray_address='head'", "HOST:PORT", "auto"]),
        (["--runtime.ray-address", "head:port"], ["ray_address='head:port'"]),
        (["--runtime.ray-address", "head:65536"], ["ray_address='head:65536'"]),
        (["--runtime.ray-address", "ray://head:10001"], ["ray_address='ray://head:10001'"]),
        (["--runtime.ray-address="], ["ray_address=''"]),
        (["--evaluation.episode-limit", "0"], ["episode_limit=0", "above 0"]),
        (["--evaluators", "0"], ["evaluators=0", "--evaluation.interval-frames None"]),
        (["--runtime.learner-calls-in-flight", "0"], ["learner_calls_in_flight=0", "above 0"]),
    ],
)
def test_bad_settings_of_the_services_are_refused(refused, arguments, parts):
    message = refused("train", "debug", *arguments)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("command", [("sweep", "debug"), ("attach", "run")])
def test_what_is_no_address_of_a_cluster_is_refused(refused, command):
    message = refused(*command, "--ray-address", "127.0.0.1:99999")
    assert "ray_address='127.0.0.1:99999' must be HOST:PORT" in message


def test_a_metrics_port_in_use_is_refused_before_anything_is_written(refused, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused("train", "debug", *SMALL, "--metrics.port", port)
    assert f"127.0.0.1:{port}" in message and "--metrics.port" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "local"])
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["debug", *SMALL, "--env.task", "tests.services.failing_env:make_failing_env"], "task"),
        (["debug", "--steps", "60"], "env.suite='gymnasium' there, 'atari' asked for"),
        (["gymnasium_tiny", *SMALL], "preset='debug' there, 'gymnasium_tiny' asked for"),
        (["debug", *SMALL, "--seed", "1"], "seed=0 there, 1 asked for"),
    ],
)
def test_the_directory_of_another_run_is_refused_and_stays_as_it_was(
    refused, copied, command, arguments, part
):
    port = ("--metrics.port", "0") if command == "train" else ()
    message = refused(command, *arguments, "--run-dir", copied, *port)
    assert part in message and "--run-dir" in message


@pytest.mark.parametrize("command", ["train", "local"])
def test_a_directory_that_cannot_be_made_is_refused(refused, tmp_path, command):
    (tmp_path / "file").write_text("not a directory")
    port = ("--metrics.port", "0") if command == "train" else ()
    message = refused(command, "debug", *SMALL, "--run-dir", tmp_path / "file" / "run", *port)
    assert "Not a directory" in message and "--run-dir" in message


def test_a_directory_with_foreign_files_is_refused(refused, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    message = refused("local", "debug", *SMALL, "--run-dir", tmp_path)
    assert "thesis.tex" in message and "--run-dir" in message


@pytest.mark.parametrize("command", ["eval", "status"])
def test_a_directory_without_a_run_is_refused(refused, tmp_path, command):
    message = refused(command, tmp_path)
    assert str(tmp_path) in message and "config.json" in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--episodes", "0"], ["--episodes 0", "1 or more"]),
        (["--video", "x.avi"], ["x.avi", ".mp4 or .webm or .gif"]),
        (["--checkpoint", "7"], ["no checkpoint 7 in", "there are [2"]),
        (["--mode", "lucky"], ["--mode", "lucky", "greedy"]),
        (["--seed", "-1"], ["seed", "-1", "0 or more"]),
        (["--episode-limit", "0"], ["--episode-limit 0", "1 or more"]),
    ],
)
def test_bad_options_of_eval_are_refused(refused, finished, arguments, parts):
    message = refused("eval", finished, *arguments)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--to", "x.pth"), "ends in .onnx or .pt2"),
        (("--to", "x.pt2", "--checkpoint", "7"), "no checkpoint 7 in"),
        (("--to", "no/x.pt2"), "Name another file with --to"),
        ((), "--to"),
    ],
)
def test_what_cannot_be_exported_is_refused(refused, finished, arguments, part):
    assert part in refused("export", finished, *arguments)


def test_a_video_that_cannot_be_written_is_refused_in_one_paragraph(refused, finished, tmp_path):
    assert "nowhere" in refused("eval", finished, "--video", tmp_path / "nowhere" / "x.gif")


@pytest.mark.parametrize("argument", ["~nobody-at-all/run", "--run-dir=~nobody-at-all/run"])
def test_the_home_directory_of_nobody_is_refused(refused, argument):
    assert "there is none of that name" in refused("status", argument)


def test_a_home_directory_that_no_shell_expanded_is_meant(dreamer, finished, monkeypatch):
    monkeypatch.setenv("HOME", str(finished.parent))
    assert dreamer("status", f"~/{finished.name}")[0] == 0


def test_an_unknown_command_is_refused_with_the_known_ones(refused):
    message = refused("xyz")
    assert "'xyz'" in message and all(name in message for name in NAMES)
    assert "no command 'trains': did you mean train?" in refused("trains")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("train pong", "'pong' is a game: name a preset first, such as atari_tiny"),
        ("sweep MsPacman --seeds 1", "the game with --games MsPacman"),
        ("local debug --game pong", "no option --game: name the game with --env.task"),
    ],
)
def test_a_game_in_the_wrong_place_is_told_where_it_belongs(refused, words, part):
    assert part in refused(*words.split())


def test_presets_of_an_unknown_name_suggests_the_closest(refused):
    assert "did you mean atari_release" in refused("presets", "atari_relaese")


@pytest.mark.parametrize("command", ["train", "local"])
@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("checkpoints", ["checkpoint.url='checkpoints'", "absolute path or a URL"]),
        ("gs://bucket/run", ["gs://bucket/run", "gcsfs", "installed"]),
        ("/proc/run", ["/proc/run", "name another place"]),
    ],
)
def test_checkpoints_that_could_not_be_written_are_refused_before_a_run_is_made(
    refused, command, url, parts
):
    message = refused(command, "debug", *SMALL, "--checkpoint.url", url)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("command", ["train", "local"])
def test_the_checkpoints_of_another_run_are_refused_before_a_run_is_made(refused, copied, command):
    message = refused(command, "debug", "--checkpoint.url", copied / "checkpoints")
    assert "is of another run (env.suite='gymnasium' there, 'atari' asked for; " in message


def test_checkpoints_in_the_memory_of_a_service_are_refused(refused):
    message = refused("train", "debug", *SMALL, "--checkpoint.url", "memory://run")
    assert "would end with it" in message
