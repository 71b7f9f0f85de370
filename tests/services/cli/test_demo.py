"""`dreamer demo`: a page at once, a browser where there is one, and a run that begins with it."""

import asyncio
import json
import os
import re
import shlex
import shutil
import time

import pytest

from benchmarks.demo_agent import changes_of
from dreamer_core.storage.named import DEMO_DIRECTORY
from dreamer_core.storage.run_directory import read_config
from services.cli import demo
from services.sweep.plan import option_of
from tests.browser import browser, needs_chromium
from tests.commands import plain
from tests.watching import Served, frames

SHORT = (
    *("--steps", "60", "--schedule.prefill-policy-steps", "50", "--replay.batch-length", "10"),
    *("--replay.batch-size", "2", "--behavior.horizon", "3", "--learner.device", "cpu"),
    *("--evaluation.interval-frames", "None"),
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A demo, and the file into which its browser writes the address that it is given."""
    note = tmp_path_factory.mktemp("browser") / "address"
    script = note.with_name("browser")
    script.write_text(f'#!/bin/sh\nprintf %s "$1" >{note}\n')
    script.chmod(0o755)
    with Served("demo", BROWSER=f"{script} %s") as served:
        yield served, note
    assert served.process.returncode == 143, served.stderr


def test_the_agent_boxes_and_dreams(shown):
    served, _ = shown
    with served.looking() as messages:
        first, second = frames(messages, 2)
    assert (second["episode"], second["t"]) > (first["episode"], first["t"])
    assert len(first["action_names"]) == 18 and len(first["imagined_action"]) == 15
    assert first["gradient_step"] > 0 and first["problem"] is None and first["mode"] == "greedy"


def test_the_page_says_what_it_shows(shown):
    run = json.loads(shown[0].get("/curve")[2])
    assert (run["run"], run["task"]) == ("demo", "boxing")
    assert run["trainer"] is None and run["curves"]["kl"] and run["is_demo"]


def test_the_terminal_says_what_the_model_card_says():
    score, episodes = re.search(r"this agent ([\d.]+) \(mean of (\d+) greedy", demo._WORDS).groups()
    card = (DEMO_DIRECTORY / "MODEL_CARD.md").read_text()
    assert f"**{score}**, mean return of {episodes} greedy episodes" in card


def test_the_model_card_lists_what_differs_from_the_preset_as_that_is_now():
    card = (DEMO_DIRECTORY / "MODEL_CARD.md").read_text()
    changes = changes_of(read_config(DEMO_DIRECTORY))
    assert re.findall(r"^- `(.+)`: (.+)$", card, re.M) == [
        (name, repr(value)) for name, value in changes.items()
    ]
    assert all(shlex.join(option_of(name, value)) in card for name, value in changes.items())


def test_it_takes_processor_time_as_any_program_does(shown):
    assert os.sched_getscheduler(shown[0].player()) == os.SCHED_OTHER


def test_the_page_is_opened_in_a_browser(shown):
    served, note = shown
    give_up_s = time.monotonic() + 60
    while not (note.exists() and note.read_text()) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert note.read_text() == served.url


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--no-browser"], {"DISPLAY": ":0"}),
        ([], {}),
        ([], {"WAYLAND_DISPLAY": "none", "BROWSER": "/no/such/browser"}),
    ],
)
def test_without_a_browser_the_address_is_printed_and_all_goes_on(
    capsys, monkeypatch, options, variables
):
    for name in demo._SHOWS_PAGES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opened = []
    monkeypatch.setattr(demo, "_show", opened.append)
    monkeypatch.setattr(demo, "StopRequest", lambda _: type("Stop", (), {"exit_code": 0}))

    def listen(command, *, on_listening, should_stop):
        assert command.run_dir == DEMO_DIRECTORY
        on_listening("http://127.0.0.1:1/")

    monkeypatch.setattr("services.watch.server.watch", listen)
    assert demo.run(options) == 0
    assert "The demo is at http://127.0.0.1:1/" in capsys.readouterr().out
    assert bool(opened) == (len(variables) > 1)


def test_a_browser_that_cannot_be_started_is_no_fault(monkeypatch):
    def fail(_url):
        raise demo.webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(demo.webbrowser, "open", fail)
    demo._show("http://127.0.0.1:1/")


def test_a_port_in_use_is_refused_with_what_to_do(shown, refused):
    assert "name a free port with --port" in refused("demo", "--port", shown[0].port)


def test_eval_plays_it(dreamer):
    code, stdout, stderr = dreamer("eval", "demo", "--episodes", 1, "--episode-limit", 5)
    assert code == 0, stderr
    assert "mean return" in stdout


def test_a_run_begins_with_its_networks_and_resumes(dreamer, tmp_path):
    sizes = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in changes_of(read_config(DEMO_DIRECTORY)).items()
        if name.startswith(("world_model.", "behavior."))
    ]
    run = (
        "local",
        "atari_tiny",
        "--env.task",
        "boxing",
        *sizes,
        *SHORT,
        "--run-dir",
        tmp_path / "r",
    )
    code, stdout, stderr = dreamer(*run, "--from", "demo")
    assert code == 0, stderr
    assert "Began with the networks of" in plain(stdout) and "60 policy steps" in stdout
    assert json.loads((tmp_path / "r/config.json").read_text())["init_from"] == "demo"
    assert dreamer(*run, "--from", "demo")[0] == 0


def test_a_run_of_other_sizes_or_of_another_kind_of_environment_is_refused(refused, tmp_path):
    where = ("--from", "demo", "--run-dir", tmp_path / "run")
    boxing = ("local", "atari_tiny", "--env.task", "boxing", "--world-model.deter", 24)
    assert "other sizes than this run's" in refused(*boxing, *where)
    catch = ("local", "gymnasium_tiny", "--env.task", "tests.learning.catch:make_env")
    assert "was trained for" in refused(*catch, *where)


def test_a_copy_of_it_is_exported_as_any_agent_is(dreamer, tmp_path):
    code, stdout, _ = dreamer("export", "demo", "--to", tmp_path / "copy")
    assert code == 0 and f"{tmp_path}/copy" in stdout
    shutil.rmtree(tmp_path / "copy/checkpoints")
    assert dreamer("eval", tmp_path / "copy", "--episodes", 1)[0] == 2


@needs_chromium
def test_a_person_sees_it_play_without_an_error(shown, tmp_path):
    async def look():
        async with browser(tmp_path) as page:
            await page.open(shown[0].url)
            await page.wait_until("Number(document.body.dataset.frames ?? 0) >= 3")
            return await page.evaluate("document.querySelector('#task').textContent"), page.errors

    assert asyncio.run(look()) == ("boxing", [])
