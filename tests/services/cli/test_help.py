"""Help of the command and of each of its commands."""

import subprocess
import sys

import pytest

from dreamer_core.presets import PRESETS
from services.cli.commands import NAMES
from tests.commands import plain


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", "PRESET --run-dir --env.task --seed --steps --lockstep --metrics.port"),
        ("local", "PRESET --run-dir --env.task --seed --steps"),
        ("eval", "PATH --episodes --mode {greedy,sample} --checkpoint --video --on"),
        ("attach", "PATH --evaluators --forever --weights --video --on"),
        ("status", "PATH --on"),
        ("logs", "PATH --follow --on"),
        ("stop", "PATH --on"),
        ("replay", "{inspect,verify,export,import} --on"),
        ("scores", "PATH --at-frames --returns {evaluation,training} --mode --column --json"),
        ("export", "STR --to --checkpoint"),
        ("dream", "PATH --out --checkpoint --sequences --context --horizon --json"),
        ("presets", "[NAME]"),
        ("bench", "learner|policy|replay|env|run --seconds --json"),
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
        "status RUN_OR_SWEEP",
        "replay",
        "presets",
    ):
        assert f"dreamer {command}" in stdout
    assert all(name in stdout for name in PRESETS)
    assert dreamer()[:2] == (2, stdout)


# No help and no refusal asks for these.
LATE = ("torch", "ray", "matplotlib", "aiohttp", "tensorboard")
WRONG_HERE = {
    "bench": ("env", "--no-such-option"),
    "check-env": ("pong", "--no-such-option"),
    "export": ("no-run", "--to", "x.onnx"),
    "replay": ("inspect", "no-run"),
    "submit": ("http://127.0.0.1:1", "debug", "--no-such-option"),
    **dict.fromkeys(("train", "local", "offline", "sweep"), ("debug", "--no-such-option")),
    **dict.fromkeys(("demo", "presets", "report", "scores"), ("--no-such-option",)),
}
"""What is refused as bad input; of other commands a directory that is not there."""


def test_help_and_what_is_wrong_are_answered_without_what_takes_long_to_import(tmp_path):
    wrong = [(name, *WRONG_HERE.get(name, ("no-run",))) for name in NAMES]
    ask = (
        "import contextlib, sys; from services.cli import main\n"
        f"for words in {[*wrong, *((name, '--help') for name in NAMES)]}:\n"
        "    try: main(words)\n"
        "    except SystemExit as end: print('exit code', end.code, words[0])\n"
        f"    late = [x for x in {LATE} if x in sys.modules]\n"
        "    if late: sys.exit(f'{words} imported {late}')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert answer.returncode == 0, answer.stderr
    codes = [line for line in answer.stdout.splitlines() if line.startswith("exit code")]
    wanted = [*(f"exit code 2 {name}" for name in NAMES), *(f"exit code 0 {x}" for x in NAMES)]
    assert codes == wanted
