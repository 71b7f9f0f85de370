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
OF_SETTINGS = ("train", "local", "offline", "sweep", "submit", "bench")


def test_help_and_what_is_wrong_are_answered_without_what_takes_long_to_import(tmp_path):
    """Those of all settings first, without NumPy and in little memory; the first in little time."""
    names = [*OF_SETTINGS, *(name for name in NAMES if name not in OF_SETTINGS)]
    words = [(x, *w) for x in names for w in (("--help",), WRONG_HERE.get(x, ("no-run",)))]
    here = ("no-files", "--run-dir", "new", "--preset", "debug")
    words += [("replay", "import", *x) for x in (("--help",), here)]
    names.append("replay")
    ask = (
        "import sys, time; from pathlib import Path; from services.cli import main\n"
        "def measured():\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    peak_kb = int(status.partition('VmHWM:')[2].split()[0])\n"
        "    print('measured', time.process_time(), peak_kb)\n"
        f"for words in {words}:\n"
        "    try: main(words)\n"
        "    except SystemExit as end: print('exit code', end.code, words[0])\n"
        f"    late = {LATE} + (('numpy',) if words[0] in {OF_SETTINGS} else ())\n"
        "    late = [x for x in late if x in sys.modules]\n"
        "    if late: sys.exit(f'{words} imported {late}')\n"
        f"    if words in {[words[0], words[2 * len(OF_SETTINGS) - 1]]}: measured()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    codes = [line for line in lines if line.startswith("exit code")]
    assert codes == [f"exit code {code} {name}" for name in names for code in (0, 2)]
    (first_s, _), (_, peak_kb) = [
        map(float, x.split()[1:]) for x in lines if x.startswith("measured")
    ]
    assert first_s < 1.2, "0.35 s where nothing else runs"
    assert peak_kb < 60_000, "of all these together"
