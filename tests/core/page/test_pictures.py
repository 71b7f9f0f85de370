"""Films: a sheet whose images are those that were given."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dreamer_core.page import pictures
from dreamer_core.page.pictures import Film, player
from tests.core.page.examples import Parsed, an_analysis, images


def sheet(html):
    (content,) = re.findall(r"base64,([\w+/=]+)", html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_holds_the_images_row_by_row(channels):
    frames = images(5, channels)
    html = player([Film("seen", frames)], name="film", fps=15)
    (stage,) = (x for _, x in Parsed(html).attributes if x.get("class") == "stage")
    assert (stage["data-columns"], stage["data-rows"]) == ("3", "2")
    found = sheet(html)
    assert found.shape == (128, 192, 3)
    for k in range(5):
        top, left = 64 * (k // 3), 64 * (k % 3)
        tile = found[top : top + 64, left : left + 64]
        assert (tile == frames[k]).all()


def test_a_film_that_is_too_large_leaves_out_images_of_all_that_run_beside_it(monkeypatch):
    monkeypatch.setattr(pictures, "FILM_BYTES", 20_000)
    flat = np.zeros((40, 64, 64, 1), np.uint8)
    html = player([Film("noise", images(40)), Film("flat", flat)], name="film", fps=16)
    (attributes,) = (x for _, x in Parsed(html).attributes if x.get("class") == "player")
    stages = [x for _, x in Parsed(html).attributes if x.get("class") == "stage"]
    assert len({(x["data-columns"], x["data-rows"]) for x in stages}) == 1
    every, frames = int(attributes["data-every"]), int(attributes["data-frames"])
    assert every > 1 and frames == -(-40 // every)
    assert float(attributes["data-fps"]) == pytest.approx(16 / every, abs=1e-3)
    assert len(html) < 2 * 20_000 * 4 / 3 + 3_000


def test_open_loop_is_truth_model_and_error_and_says_where_it_begins_to_imagine():
    parsed = Parsed(pictures.open_loop(an_analysis()))
    (attributes,) = (x for _, x in parsed.attributes if x.get("class") == "player")
    assert (attributes["data-frames"], attributes["data-context"]) == ("15", "5")
    assert sum(x.get("role") == "img" for _, x in parsed.attributes) == 3


def test_charts_of_an_analysis_have_their_baselines():
    text = Parsed(pictures.analysis_charts(an_analysis())).text
    for part in ("keep the last image", "the mean reward", "KL of posterior", "120 imagined rows"):
        assert part in text


def test_without_images_and_categoricals_those_charts_are_left_out():
    bare = an_analysis(has_images=False, is_gaussian=True)
    text = Parsed(pictures.analysis_charts(bare)).text
    assert "image error" not in text and "latent" not in text and "reward error" in text
    assert pictures.open_loop(bare) is None and pictures.latent_words(bare) is None


def test_how_well_rewards_are_known_is_said_beside_their_mean():
    analysis = an_analysis()
    assert pictures.reward_words(analysis).endswith(
        "sees: 0.01; of always saying their mean: 0.05."
    )
    alike = replace(analysis, overall_mean_reward_error=0.0)
    assert pictures.reward_words(alike).endswith("sees: 0.01, and all are alike.")


def test_usage_is_counted_in_classes():
    words = pictures.latent_words(an_analysis())
    assert "8 of 2 x 4 classes were drawn; a variable uses 4.0 of its 4 classes" in words
    assert "0.50 nats of at most 1.39" in words
