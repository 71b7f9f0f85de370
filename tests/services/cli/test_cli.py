"""The command line: what it refuses and how, and the commands that need no Ray."""

import json
import re
import shutil
import socket

import pytest
from PIL import Image

from dreamer_core.presets import PRESETS, changes, leaves, preset
from tests.commands import exit_code_of

PIXELS = ("--env.suite", "gymnasium", "--env.task", "tests.learning.catch:make_env")
SMALL = (*PIXELS, "--env.action-repeat", "1", "--learner.device", "cpu", "--steps", "60")


@pytest.fixture
def refused(dreamer, tmp_path):
    """Runs a command that must be refused as bad input, and returns its one paragraph."""

    def run(*arguments):
        before = contents(tmp_path)
        code, stdout, stderr = dreamer(*arguments)
        assert code == 2, stdout + stderr
        assert "Traceback" not in stdout + stderr
        assert stderr.strip() and "\n\n" not in stderr.strip()
        assert contents(tmp_path) == before
        return plain(stderr)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished run on Catch; tests only read it."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert exit_code_of("local", "debug", "--run-dir", run_dir, *SMALL) == 0
    return run_dir


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run in the test's own directory."""
    return shutil.copytree(finished, tmp_path / "run")


def contents(root):
    """What each file holds, but the lock."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "run.lock")
    return {path: path.read_bytes() for path in files}


def plain(text):
    """The words, without the frames that help and errors are drawn in."""
    return " ".join(re.sub(r"[─│╭╮╰╯]", " ", text).split())


# Bad input


@pytest.mark.parametrize("command", ["train", "local"])
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["debug", "--env.task", "breakoutt"], ["breakoutt", "breakout"]),
        (["debg"], ["debg", "debug", "dreamer presets"]),
        ([], ["no preset", "atari_tiny"]),
        (["debug", "--env.tusk", "pong"], ["--env.tusk", "--env.task"]),
        (["debug", "--steps", "many"], ["--steps", "many", "int"]),
        (["debug", "--steps", "1.5"], ["--steps", "1.5", "int"]),
        (["debug", "--learner.device", "gpu"], ["--learner.device", "gpu", "cpu"]),
        (["debug", "--steps", "0"], ["steps=0", "above 0"]),
        (["debug", "--seed", "-1"], ["seed=-1", "0 or more"]),
        (["debug", "--world-model.kl-balance", "1.5"], ["kl_balance=1.5", "between 0 and 1"]),
        (["debug", "--replay.capacity-steps", "10"], ["capacity_steps=10", "raise"]),
        (["debug", "--env.suite", "gymnasium", "--env.task", "CartPole-v1"], ["image", "(4,)"]),
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
        (["--metrics.port", "70000"], ["metrics.port=70000", "0 to 65535"]),
        (["--runtime.object-store-bytes", "5"], ["object_store_bytes=5", "raise"]),
        (["--evaluator.interval-policy-steps", "0"], ["interval_policy_steps=0", "None"]),
        (["--runtime.learner-calls-in-flight", "0"], ["learner_calls_in_flight=0", "above 0"]),
    ],
)
def test_bad_settings_of_the_services_are_refused(refused, arguments, parts):
    message = refused("train", "debug", *arguments)
    for part in parts:
        assert part in message, message


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
        (["--video", "x.avi"], ["x.avi", ".mp4 or .gif"]),
        (["--mode", "lucky"], ["--mode", "lucky", "greedy"]),
        (["--seed", "-1"], ["seed", "-1", "0 or more"]),
    ],
)
def test_bad_options_of_eval_are_refused(refused, finished, arguments, parts):
    message = refused("eval", finished, *arguments)
    for part in parts:
        assert part in message, message


def test_a_video_that_cannot_be_written_is_refused_in_one_paragraph(refused, finished, tmp_path):
    assert "nowhere" in refused("eval", finished, "--video", tmp_path / "nowhere" / "x.gif")


def test_an_unknown_command_is_refused_with_the_known_ones(refused):
    message = refused("trains")
    assert (
        "'trains'" in message
        and "train, local, sweep, eval, attach, submit, watch, status, logs, stop, replay"
        in message
    )


def test_presets_of_an_unknown_name_suggests_the_closest(refused):
    assert "did you mean atari_release" in refused("presets", "atari_relaese")


# Help


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", "PRESET --run-dir --env.task --seed --steps --lockstep --metrics.port"),
        ("local", "PRESET --run-dir --env.task --seed --steps"),
        ("eval", "PATH --episodes --mode {greedy,sample} --video --on"),
        ("attach", "PATH --evaluators --forever --weights --video --on"),
        ("status", "PATH --on"),
        ("logs", "PATH --follow --on"),
        ("stop", "PATH --on"),
        ("replay", "{inspect,verify,export} --on"),
        ("presets", "[NAME]"),
    ],
)
def test_help_of_each_command_lists_its_options(dreamer, command, options):
    code, stdout, stderr = dreamer(command, "--help")
    assert (code, stderr) == (0, "")
    assert f"usage: dreamer {command}" in plain(stdout)
    for option in options.split():
        assert option in stdout, option


def test_help_of_a_preset_shows_its_values_as_defaults(dreamer):
    code, stdout, _ = dreamer("train", "atari_tiny", "--help")
    assert code == 0 and "(default: 10000)" in plain(stdout)


def test_help_names_all_commands_and_presets(dreamer):
    code, stdout, _ = dreamer("--help")
    assert code == 0
    for command in (
        "train PRESET",
        "local PRESET",
        "eval RUN_DIR",
        "status RUN_DIR",
        "replay",
        "presets",
    ):
        assert f"dreamer {command}" in stdout
    assert all(name in stdout for name in PRESETS)
    assert dreamer()[:2] == (2, stdout)


# Presets


def test_presets_lists_each_with_what_it_is(dreamer):
    code, stdout, _ = dreamer("presets")
    assert code == 0
    for name, entry in PRESETS.items():
        assert name in stdout and entry.summary in plain(stdout)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_printed_with_each_value_its_source_and_what_it_changes(dreamer, name):
    code, stdout, _ = dreamer("presets", name)
    assert code == 0
    rows = {line.split()[0]: plain(line) for line in stdout.splitlines()[1:] if line.split()}
    atari = dict(leaves(preset("atari")))
    for path, value in leaves(preset(name)):
        if path == "preset":
            continue
        change = changes(name).get(path)
        before = f" {atari[path]}" if change else ""
        source = f" {change.source}" if change else ""
        assert rows[path].startswith(f"{path} {value}{before}{source}"), rows[path]
        assert len(rows[path]) > len(f"{path} {value}{before}")


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


# A finished run


def test_checkpoints_at_a_url_are_named_shown_by_status_and_played_from(dreamer, tmp_path):
    url = f"memory://{tmp_path}"
    run = ("local", "debug", "--run-dir", "run", *SMALL, "--checkpoint.url", url)
    code, stdout, stderr = dreamer(*run)
    assert code == 0, stderr
    assert f"checkpoints {url}" in plain(stdout) and not (tmp_path / "run/checkpoints").exists()
    status = plain(dreamer("status", "run")[1])
    assert "newest checkpoint gradient step 2, " in status and f" ago in {url} " in status
    assert dreamer("eval", "run", "--episodes", 1)[0] == 0
    message = dreamer(*run[:-1], f"{url}/elsewhere")[2]
    assert "checkpoint.url" in message and "Nothing was changed" in plain(message)


def test_status_goes_on_where_checkpoints_cannot_be_read(dreamer, copied):
    shutil.rmtree(copied / "checkpoints")
    assert "newest checkpoint none yet" in plain(dreamer("status", copied)[1])
    (copied / "checkpoints").write_text("")
    code, stdout, _ = dreamer("status", copied)
    assert code == 0 and "newest checkpoint unknown: [Errno 20] Not a directory" in plain(stdout)
    assert "policy steps 60 of 60" in plain(stdout)


def test_status_says_where_a_run_stands(dreamer, finished):
    code, stdout, _ = dreamer("status", finished)
    assert code == 0
    for part in (
        "debug, task tests.learning.catch:make_env, seed 0",
        "not running",
        "policy steps 60 of 60 (100%)",
        "env frames 60",
        "gradient steps 2",
        "newest checkpoint gradient step 2",
        "dreamer_episode_return",
    ):
        assert part in plain(stdout), part


def test_eval_plays_episodes_and_films_the_first(dreamer, finished, tmp_path):
    arguments = ("eval", finished, "--episodes", 2, "--video", tmp_path / "x.gif")
    code, stdout, _ = dreamer(*arguments)
    assert code == 0 and dreamer(*arguments)[1] == stdout  # the same seed, the same episodes
    returns = [float(x) for x in re.findall(r"episode \d: return (-?\d+), 49 policy", stdout)]
    assert len(returns) == 2 and all(-5 <= x <= 5 for x in returns)
    assert f"mean return {sum(returns) / 2:g} over 2 episodes, mode greedy" in stdout
    with Image.open(tmp_path / "x.gif") as video:
        assert video.n_frames > 1


def test_eval_leaves_the_run_as_it_was(dreamer, finished):
    before = contents(finished)
    assert dreamer("eval", finished, "--episodes", 1, "--mode", "sample")[0] == 0
    assert contents(finished) == before


# --- bench ------------------------------------------------------------------------------------


def test_bench_writes_what_it_measured(dreamer, tmp_path):
    code, out, _ = dreamer(
        "bench", "learner", "--preset", "debug", "--seconds", "0.1", "--json", "new/learner.json",
        "--replay.batch-size", "2",
    )  # fmt: skip
    assert code == 0
    assert "gradient step of 2 x 8" in out
    found = json.loads((tmp_path / "new" / "learner.json").read_text())
    assert found["median_s"] > 0
    assert found["settings"]["preset"] == "debug"


def test_bench_run_measures_a_real_run(dreamer, tmp_path):
    code, _, _ = dreamer(
        "bench", "run", "--preset=debug", "--learner.device", "cpu", "--seconds", "2",
        "--steps", "100000", "--json", "run.json", "--metrics.port", "0",
    )  # fmt: skip
    assert code == 0
    details = json.loads((tmp_path / "run.json").read_text())["details"]
    assert details["frames_per_second"] == pytest.approx(
        details["gradient_steps_per_second"] * 4 * 4  # ratio and action repeat of the preset
    )
    assert any("Learner" in name for name in details["peak_resident_bytes"])


def test_bench_replay_measures_each_size_and_the_wire(dreamer, tmp_path):
    code, _, _ = dreamer(
        "bench", "replay", "--preset", "debug", "--rows", "300", "600", "--seconds", "0.2",
        "--json", "replay.json",
    )  # fmt: skip
    assert code == 0
    details = json.loads((tmp_path / "replay.json").read_text())["details"]
    assert set(details["by_rows"]) == {"300", "600"}
    assert details["delivered"]["batches_per_second"] > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bench",), "There is nothing named '' to measure; known are learner, policy"),
        (("bench", "gpu"), "There is nothing named 'gpu' to measure"),
        (("bench", "env", "--seconds", "0"), "--seconds 0: wanted more than 0"),
        (("bench", "replay", "--rows", "3"), "wanted sizes of 50 rows or more"),
        (("bench", "env", "--preset", "atary"), "did you mean atari"),
    ],
)
def test_bench_refuses_what_it_cannot_measure(refused, arguments, words):
    assert words in refused(*arguments)
