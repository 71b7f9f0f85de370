"""The command as a whole: what its help says, and what a small command loads."""

import platform
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from dreamer_core.storage import provenance
from services import cli
from services.cli.commands import NAMES, table_rows
from tests.runs import ROOT

HEAVY = ("torch", "ray", "tensorboard", "matplotlib", "cv2")


def test_the_usage_page_lists_what_the_help_lists():
    page = (ROOT / "docs" / "usage.md").read_text()
    rows = [
        re.sub(r" \(\[\w+\]\([^)]*\)\)", "", line)
        for line in page.splitlines()
        if line.startswith("| `dreamer ")
    ]
    assert rows == table_rows()


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_module_and_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as exited:
        cli.main([name, "--help"])
    assert exited.value.code == 0 and "usage" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("command", ["train", "local", "offline", "sweep"])
def test_the_help_of_a_preset_shows_its_defaults_and_no_option_preset(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "debug", "--help"])
    told = capsys.readouterr().out
    assert "--steps" in told and "--preset" not in told
    with pytest.raises(SystemExit) as exited:
        cli.main([command, "debug", "--preset", "atari"])
    assert exited.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        "status nowhere",
        "logs nowhere",
        "stop nowhere",
        "presets",
        "scores nowhere",
        "report nowhere",
        "--version",
    ],
)
def test_a_command_that_does_not_train_loads_little_and_takes_little_time(words):
    """A process of its own, since this one has loaded everything."""
    code = (
        "import os, sys; from services.cli import main\n"
        f"try: main({words.split()})\n"
        f"except SystemExit: print([m for m in {HEAVY} if m in sys.modules], os.times().user,\n"
        "  sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *_, heavy, user_s = done.stderr.splitlines()
    assert heavy == "[]"
    assert float(user_s) < 1.2, "0.3 s where nothing else runs"


def test_the_version_is_that_of_what_is_installed(capsys, monkeypatch):
    provenance.program.cache_clear()
    monkeypatch.setenv("DREAMER_COMMIT", "0123abc")
    with pytest.raises(SystemExit) as exited:
        cli.main(["--version"])
    provenance.program.cache_clear()
    said = capsys.readouterr().out.splitlines()
    names = ("torch", "ray")
    assert exited.value.code == 0
    assert said[:2] == [f"dreamer {version('dreamerv2-service')}", "commit 0123abc"]
    assert said[2:4] == [f"{name} {version(name)}" for name in names]
    assert said[4] == f"Python {platform.python_version()}"
