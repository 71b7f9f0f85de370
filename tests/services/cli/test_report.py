"""`dreamer report`: what it writes, of which runs, and what it refuses."""

import functools
import re

import pytest

from dreamer_core.files import take_lock
from dreamer_core.report.curves import plot_learning_curve
from dreamer_core.run import analysis
from tests.commands import plain
from tests.core.page.examples import Parsed, a_run


def test_a_finished_run_becomes_a_page_with_its_dream_and_an_episode(
    dreamer, finished, tmp_path, monkeypatch
):
    few = functools.partial(analysis.analyse_run, sequences=4, horizon=4)
    monkeypatch.setattr(analysis, "analyse_run", few)
    code, stdout, stderr = dreamer("report", finished)
    assert (code, stderr) == (0, "")
    assert re.search(r"report\.html: 1 run, \d+ kB$", plain(stdout))
    parsed = Parsed((tmp_path / "report.html").read_text())
    assert "A greedy episode" in parsed.text and "tests.learning.catch:make_env" in parsed.text
    assert "finished" in parsed.text and "held-out sequence" in parsed.text


def test_nothing_is_played_that_is_not_wanted(dreamer, finished, tmp_path):
    for words in (("--no-episode", "--no-dream"), ("--pictures", "0")):
        code, stdout, _ = dreamer("report", finished, "--out", "page.html", *words)
        content = (tmp_path / "page.html").read_text()
        assert code == 0 and "an episode" not in stdout and 'class="player"' not in content


def test_a_run_that_cannot_be_played_is_reported_and_says_why(dreamer, tmp_path):
    with take_lock(a_run(tmp_path / "run") / "run.lock"):
        code, stdout, _ = dreamer("report", "run")
    text = plain(Parsed((tmp_path / "report.html").read_text()).text)
    assert code == 0 and "run is shown without an episode: Wanted" in plain(stdout)
    assert "running" in text and "Shown without an episode: Wanted" in text


def test_a_name_of_bytes_that_are_no_text_is_shown_with_question_marks(dreamer, tmp_path):
    run_dir = a_run(tmp_path / "r\udcf6n")
    code, _, stderr = dreamer("report", run_dir, "--pictures", "0")
    assert (code, stderr) == (0, "")
    assert "r?n" in (tmp_path / "report.html").read_text()
    assert plot_learning_curve(run_dir).is_file()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "Wanted RUN: directories of runs or of sweeps"),
        (("nowhere",), "There is no directory nowhere; name that of a run or of a sweep"),
        (("empty",), "empty holds neither a run (config.json) nor a sweep (sweep.json)"),
        (("run", "--pictures", "-1"), "--pictures -1: wanted 0 or more"),
        (("run", "--pictures", "0", "--out", "no/page.html"), "Name a file with --out"),
        (("x" * 300,), "Name a run directory or a sweep directory"),
    ],
)
def test_what_cannot_be_reported_is_refused_with_what_to_do(refused, tmp_path, words, part):
    (tmp_path / "empty").mkdir()
    a_run(tmp_path / "run")
    assert part in refused("report", *words)
