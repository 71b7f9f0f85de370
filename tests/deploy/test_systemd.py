"""deploy/systemd: systemd takes the unit, and the program its command."""

import shutil
import subprocess

import pytest

from services.cli.options import TrainCommand, with_preset
from tests.runs import DREAMER, ROOT

UNIT = ROOT / "deploy" / "systemd" / "dreamer@.service"
PROGRAM = "/opt/dreamer/.venv/bin/dreamer"


def settings(name):
    """The values of a setting, in order."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines())
    return [value for key, _, value in lines if key == name]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs the package systemd")
def test_systemd_finds_nothing_wrong(tmp_path):
    unit = tmp_path / "dreamer@pong.service"
    unit.write_text(UNIT.read_text().replace(PROGRAM, str(DREAMER)))
    asked = ["systemd-analyze", "verify", "--man=no", unit]
    done = subprocess.run(asked, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_its_command_is_one_that_this_version_takes():
    (command,) = settings("ExecStart")
    program, kind, *words = command.replace("%i", "pong").split()
    assert (program, kind) == (PROGRAM, "train")
    at = words.index("$DREAMER_OPTIONS")
    words[at : at + 1] = ["atari", "--env.task", "pong"]
    assert str(with_preset(TrainCommand, words, "dreamer train PRESET").run_dir).endswith("/pong")


def test_it_is_started_again_after_a_failure_but_not_after_a_stop_or_bad_options():
    assert settings("Restart") == ["on-failure"]
    assert settings("SuccessExitStatus") == ["143"]
    assert settings("RestartPreventExitStatus") == ["2"]
    assert int(*settings("TimeoutStopSec")) > 30  # a checkpoint is written within that
