"""The end of a command whose environment left threads: said, and soon."""

import subprocess
import sys

import pytest

from tests.commands import exit_code_of

END = """
import sys, threading, time
from services.cli.ending import end_despite_threads
threading.Thread(target=time.sleep, args=({seconds},), name="physics", daemon={is_daemon}).start()
print("done")
end_despite_threads({code}, wait_s={wait_s})
sys.exit({code})
"""


def end_of(seconds, code, is_daemon=False, wait_s=1.0):
    """(exit code, stdout, stderr) of a process that ends with a thread of so many seconds."""
    lines = END.format(seconds=seconds, code=code, is_daemon=is_daemon, wait_s=wait_s)
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_a_thread_that_does_not_end_is_named_and_the_exit_code_kept(code):
    got, stdout, stderr = end_of(600, code)
    assert (got, stdout) == (code, "done\n") and "still run: physics" in stderr


@pytest.mark.parametrize(("seconds", "is_daemon"), [(0.3, False), (600, True)])
def test_threads_that_end_soon_and_daemons_are_nobodys_concern(seconds, is_daemon):
    assert end_of(seconds, 0, is_daemon, wait_s=60.0) == (0, "done\n", "")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_an_output_that_was_closed_before_is_done_without(monkeypatch, name):
    monkeypatch.setattr(sys, name, None)
    assert exit_code_of("presets") == 0
    getattr(sys, name).close()


def test_a_crash_in_c_says_in_which_line_it_was():
    lines = (
        "import ctypes, services.cli; from services.cli import presets\n"
        "def simulate(_): ctypes.string_at(0)\n"
        "presets.run = simulate; services.cli.main(['presets'])"
    )
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode < 0 and "line 2 in simulate" in done.stderr


def test_a_command_ends_although_its_environment_left_a_thread(tmp_path):
    task = "tests.core.run.odd_envs:Threaded"
    lines = (
        "import services.cli.ending as ending; ending.end_despite_threads.__defaults__ = (1.0,); "
        "import services.cli; "
        f"services.cli.main(['check-env', '{task}', '--to', '{tmp_path / 'sheet.png'}'])"
    )
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "Train on it" in done.stdout and "still run: physics" in done.stderr
