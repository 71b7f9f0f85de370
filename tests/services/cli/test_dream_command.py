"""`dreamer dream`: what a run's world model imagines, as an animation and in numbers."""

import json

import pytest
from PIL import Image

from tests.commands import exit_code_of, plain

SHORT = ("--sequences", "3", "--context", "2", "--horizon", "6")


@pytest.fixture(scope="module")
def dreamt(finished, tmp_path_factory):
    """What the command said and wrote of the finished run."""
    place = tmp_path_factory.mktemp("dream")

    options = (*SHORT, "--out", place / "x.gif", "--json", place / "x.json")
    assert exit_code_of("dream", finished, *options) == 0
    return place


def test_the_table_has_the_steps_asked_for_beside_both_baselines(dreamer, finished):
    code, stdout, stderr = dreamer("dream", finished, *SHORT)
    assert code == 0 and not stderr
    words = plain(stdout)
    assert "plays 24 policy steps" in words and "world model of 2 gradient steps" in words
    assert "3 sequences, rows seen of each: 2" in words
    for column in ("last image", "mean reward", "KL, nats"):
        assert all(word in words for word in column.split())
    rows = [line.split() for line in stdout.splitlines() if line.rstrip().endswith(" 3")]
    assert [row[0] for row in rows] == ["1", "5", "6"]
    assert "episode goes on: " in words and "A good model errs much less" in words
    assert dreamer("dream", finished, *SHORT)[1] == stdout  # the same seed


def test_the_animation_marks_what_is_imagined(dreamt):
    with Image.open(dreamt / "x.gif") as video:
        first = video.convert("RGB")
        video.seek(video.n_frames - 1)
        last = video.convert("RGB")
    assert first.size == last.size and not any(side % 2 for side in first.size)
    frames = [picture.getpixel((278, 150)) for picture in (first, last)]
    assert frames[0][2] > frames[0][0] and frames[1][0] > frames[1][2]  # blue, then orange


def test_the_numbers_are_those_of_the_analysis(dreamt):
    told = json.loads((dreamt / "x.json").read_text())
    assert told["sequences"] == 3 and told["reached"] == [3.0] * 6
    curves = ("image_error", "copied_image_error", "reward_error", "mean_reward_error", "kl")
    assert all(len(told[name]) == 6 for name in curves)
    assert sum(told["discount"]["count"]) == 18
    assert "truth" not in told and "model" not in told


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--out", "x.avi"), ("--out x.avi: wanted a name that ends in",)),
        (("--out", "nowhere/x.gif"), ("there is no directory nowhere",)),
        (("--horizon", "0"), ("--horizon 0: wanted 1 or more",)),
        (("--horizon", "996"), ("--context 5 and --horizon 996: wanted 1,000 or less together",)),
        (("--checkpoint", "7"), ("no checkpoint 7", "there are [2")),
        (("--sequences", "1", "--context", "60", "--horizon", "1"), ("lower the context",)),
    ],
)
def test_what_cannot_be_done_is_told_in_one_paragraph(refused, finished, options, parts):
    message = refused("dream", finished, *options)
    assert all(part in message for part in parts), message


def test_a_run_that_is_not_there_is_told_and_one_without_checkpoints(refused, copied, tmp_path):
    assert "there is no nowhere" in refused("dream", "nowhere")
    for path in (copied / "checkpoints").rglob("*"):
        if path.is_file():
            path.unlink()
    assert "holds no checkpoint. A run writes one" in refused("dream", copied)
