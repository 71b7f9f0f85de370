"""The agent that comes with the package: whole, small, and what its card says."""

import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from benchmarks import demo_agent
from dreamer_core import Policy
from dreamer_core.envs.suites import environment_spec
from dreamer_core.errors import BadInput
from dreamer_core.run.restored import load_agent
from dreamer_core.storage.identity import environment_facts, saved_config
from dreamer_core.storage.named import DEMO_DIRECTORY, load_named, run_named
from dreamer_core.storage.run_directory import read_config
from tests.core.run.test_acting import CONFIG, make_run
from tests.runs import ROOT

FOUND = load_named("demo")
CARD = (DEMO_DIRECTORY / demo_agent.CARD).read_text()


def test_the_card_names_each_setting_that_is_not_the_presets():
    config = read_config(DEMO_DIRECTORY)
    told = [f"- `{name}`: {value!r}" for name, value in demo_agent.changes_of(config).items()]
    assert told == [line for line in CARD.splitlines() if line.startswith("- `")]


def test_its_networks_are_those_of_its_config_and_of_the_game():
    agent = load_agent("demo")
    config = read_config(DEMO_DIRECTORY)
    assert config == saved_config(FOUND.facts, FOUND.location) and config.env.task == "boxing"
    assert FOUND.facts["environment"] == environment_facts(environment_spec(config.env))
    assert agent.gradient_step == FOUND.step > 0
    assert Policy.load("demo").config == config


def test_it_is_a_few_megabytes():
    sizes = [path.stat().st_size for path in DEMO_DIRECTORY.rglob("*") if path.is_file()]
    assert sum(sizes) < 8e6


def test_its_card_says_what_it_is():
    for part in (
        f"{FOUND.facts['policy_step']:,} policy steps",
        f"{FOUND.step:,} gradient steps",
        f"preset `{read_config(DEMO_DIRECTORY).preset}`",
        "## Data",
        "## Licence",
        "make demo-agent RUN_DIR=",
    ):
        assert part in CARD, part
    returns = [
        float(x) for x in re.search(r"The returns of its episodes: (.*)\.", CARD)[1].split(",")
    ]
    mean, episodes = re.search(r"\*\*(-?[\d.]+)\*\*, mean return of (\d+) greedy", CARD).groups()
    assert len(returns) == int(episodes) and f"{sum(returns) / len(returns):.1f}" == mean


def test_a_directory_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_named("demo") == DEMO_DIRECTORY
    make_run(tmp_path / "demo", CONFIG, 4)
    assert load_named("demo").step == 4 and str(run_named("demo")) == "demo"


def test_a_card_names_the_command_that_trains_such_an_agent(tmp_path):
    agent = demo_agent.hand_on(make_run(tmp_path / "run", CONFIG, 4), tmp_path / "agent")
    options = demo_agent.options_of(
        [str(tmp_path), "--note", "Not trained.", "--trained-at", "abc"]
    )
    card = demo_agent.card(agent, [1.0, 4.0], options)
    assert "**Not trained.**" in card and "at commit abc" in card
    assert "**2.5**, mean return of 2 greedy episodes (standard deviation 1.5, from 1 to 4)" in card
    assert "dreamer local debug --env.task tests.learning.catch:make_env --steps 16" in card
    assert "--env.suite gymnasium" in card and "- `env.suite`: 'gymnasium'" in card


def test_what_is_no_run_is_refused_and_the_demo_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_agent, "DEMO_DIRECTORY", tmp_path / "demo")
    (tmp_path / "demo").mkdir()
    with pytest.raises(BadInput, match="there is no"):
        demo_agent.main([str(tmp_path / "nowhere")])
    assert (tmp_path / "demo").is_dir()


def test_the_agent_of_a_run_takes_the_place_of_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_agent, "DEMO_DIRECTORY", tmp_path / "demo")
    for step in (4, 5):
        demo_agent.main([str(make_run(tmp_path / f"run{step}", CONFIG, step)), "--episodes", "1"])
    assert load_agent(tmp_path / "demo").gradient_step == 5
    assert "mean return of 1 greedy episodes" in (tmp_path / "demo" / demo_agent.CARD).read_text()
    assert not (tmp_path / "demo.new").exists()


def test_a_wheel_brings_it(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    for name in ("dreamer_core", "services"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--quiet",
        str(source),
    ]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, *options], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "/demo/" in name}
    files = [path for path in DEMO_DIRECTORY.rglob("*") if path.is_file()]
    assert packed == {str(path.relative_to(ROOT)) for path in files} and len(packed) >= 5
