"""Help of the command and of each of its commands."""

import subprocess
import sys

import pytest

from dreamer_core.presets import PRESETS
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


def test_help_and_what_is_wrong_are_answered_without_what_takes_long_to_import(tmp_path):
    nowhere = str(tmp_path / "no-run")
    wrong = [(command, "debug", "--no-such-option") for command in ("train", "local", "offline")]
    wrong += [(name, nowhere) for name in ("eval", "dream", "attach", "watch", "status", "stop")]
    wrong += [("export", nowhere, "--to", "x.onnx"), ("check-env", "pong", "--no-such-option")]
    ask = (
        "import contextlib, sys; from services.cli import main\n"
        f"for words in {[*wrong, *((words[0], '--help') for words in wrong)]}:\n"
        "    try: main(words)\n"
        "    except SystemExit as end: print('exit code', end.code)\n"
        "print([x for x in ('torch', 'ray', 'matplotlib') if x in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    codes = [line for line in answer.stdout.splitlines() if line.startswith("exit code")]
    assert codes == ["exit code 2"] * len(wrong) + ["exit code 0"] * len(wrong)
    assert answer.stdout.endswith("[]\n")
