"""What is installed for whom: running takes the base packages, testing the extra `dev` besides."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OWN = ("dreamer_core", "services")
INSTALL_FOR_RUNNING, INSTALL_FOR_TESTING = (
    "-c constraints.txt -e . ",
    "-c constraints.txt -e '.[dev]'",
)
RUNNING = {"install", "train", "demo", "demo-agent", "bench", "bench-tables"}
NEITHER = {"help", "constraints", "clean", "image"}
TARGETS = set(re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def make(tmp_path, *arguments, is_pip_asked_for=True):
    """What make would do where nothing is installed yet, with pip and without a GPU."""
    outside = {
        k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "UV"
    }
    outside["PATH"] = f"{tmp_path}:{outside['PATH']}"
    (tmp_path / "uv").symlink_to("/bin/false")  # one that does not run hides one that does
    pip = ("UV=",) if is_pip_asked_for else ()
    settings = (f"VENV={tmp_path / 'venv'}", "GPU=", *pip, *arguments)
    return subprocess.run(
        ["make", "-n", *settings],
        check=False,
        cwd=ROOT,
        env=outside,
        capture_output=True,
        text=True,
    )


def imported(path):
    """The first names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_running_needs_what_the_code_imports_and_nothing_else():
    modules = {
        name for own in OWN for path in (ROOT / own).rglob("*.py") for name in imported(path)
    }
    homes = packages_distributions()
    foreign = modules - sys.stdlib_module_names - set(OWN)
    needed = {homes[name][0].lower().replace("_", "-") for name in foreign}
    assert needed == {
        re.split(r"[\[><=]", each)[0] for each in PYPROJECT["project"]["dependencies"]
    }


def test_every_file_of_the_packages_goes_into_a_wheel():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]
    for own in OWN:
        globs = [each.replace("**", "**/*") for each in patterns[own]]  # as setuptools reads them
        packed = {path for each in globs for path in (ROOT / own).glob(each)}
        files = {path for path in (ROOT / own).rglob("*") if path.is_file()}
        assert {path for path in files if path.suffix not in {".py", ".pyc"}} <= packed


@pytest.mark.parametrize("target", sorted(TARGETS - NEITHER))
def test_a_target_installs_what_it_needs_and_no_more(target, tmp_path):
    planned = make(tmp_path, target).stdout
    assert INSTALL_FOR_RUNNING in planned
    assert (INSTALL_FOR_TESTING in planned) == (target not in RUNNING)


@pytest.mark.parametrize(
    ("settings", "torch"),
    [
        (("UV=uv",), "--torch-backend cpu torch"),
        (("UV=uv", "GPU=yes"), None),
        (("UV=uv", "TORCH_INDEX=cpu-builds"), "--index-url 'cpu-builds' torch"),
        ((), None),
        (("TORCH_INDEX=cpu-builds",), "--index-url 'cpu-builds' torch"),
    ],
)
def test_the_build_of_torch_is_chosen_before_all_else_is_installed(settings, torch, tmp_path):
    before = make(tmp_path, "install", *settings).stdout.partition(INSTALL_FOR_RUNNING)[0]
    assert torch in before if torch else "--no-deps" not in before
    assert ("there is none here" in before) == (not settings)


def test_where_there_is_no_uv_one_is_fetched_for_the_cpu_build_and_pip_does_the_rest(tmp_path):
    planned = make(tmp_path, "install", is_pip_asked_for=False).stdout
    subprocess.run(["bash", "-n"], input=planned, text=True, check=True)
    torch, rest = planned.split(INSTALL_FOR_RUNNING)
    assert "-c constraints.txt uv &&" in torch
    assert "/uv pip install" in torch
    assert "--torch-backend cpu torch" in torch
    assert "no-deps" not in rest


@pytest.mark.parametrize("extras", ["control,s3", "control s3", "control, s3", ",control,s3,"])
def test_extras_go_on_top(extras, tmp_path):
    assert "-e '.[control,s3]'" in make(tmp_path, "install", f"EXTRAS={extras}").stdout


def test_an_unknown_extra_is_refused(tmp_path):
    refused = make(tmp_path, "install", "EXTRAS=s3,video")
    assert refused.returncode == 2
    assert "wanted some of control,s3,export,wandb,dev and got video" in refused.stderr
