"""The page of `dreamer watch` in a real browser: what a person sees of a game."""

import asyncio
import json

import cv2
import numpy as np
import pytest

from services.watch.stage import Stage
from tests.browser import browser, needs_chromium
from tests.runs import CATCH, Run
from tests.watching import Watch, served

pytestmark = needs_chromium
FRAMES = "Number(document.body.dataset.frames ?? 0)"
FACTS = """JSON.stringify({
  ...Object.fromEntries([...document.querySelectorAll("[id]")].map((x) => [x.id, x.textContent])),
  bars: [...document.querySelectorAll("#actions i")].map((x) => parseFloat(x.style.width)),
  chosen: document.querySelectorAll("#actions .chosen").length,
  dreams: [...document.querySelectorAll("#strip li")].map((x) => x.textContent),
  curves: [...document.querySelectorAll("svg")].map((x) =>
    x.querySelectorAll("polyline,circle").length),
  overflow: document.documentElement.scrollWidth - innerWidth,
  unnamed: document.querySelectorAll("canvas:not([aria-label]), svg:not([aria-label])").length,
})"""
PIXELS = """[...document.querySelectorAll("canvas")].map((canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(data).size;
})"""
NUMBERS = """import("/charts.js").then(({short}) =>
  [0, 0.0005, 12.34, 999.4, 999.7, -999.7, 123456, 999700, 1.5e9, NaN].map((x) => short(x)))"""
TICKS = """["returns", "losses"].map((id) =>
  [...document.querySelectorAll(`#${id} text[text-anchor=middle]:not([transform])`)].map((x) =>
    [Number(x.getAttribute("x")), x.textContent]))"""


async def look(run_dir, profile):
    """What the page shows: playing, in a narrow window, without its server, and with it again."""
    async with browser(profile) as page:
        with Watch(run_dir) as watch:
            await page.open(watch.url)
            await page.wait_until(
                f"{FRAMES} >= 12 && document.querySelector('#returns circle') !== null"
            )
            seen = {"facts": json.loads(await page.evaluate(FACTS))}
            seen["numbers"] = await page.evaluate(NUMBERS)
            seen["ticks"] = await page.evaluate(TICKS)
            seen["colours"] = await page.evaluate(PIXELS)
            seen["picture"] = await page.screenshot()
            await page.resize(390, 844)
            await until_more_frames(page, 3)
            seen["narrow"] = json.loads(await page.evaluate(FACTS))
            seen["errors"] = list(page.errors)
        await page.wait_until("document.body.dataset.game === 'lost'")
        seen["lost"] = await page.evaluate("document.querySelector('#game').textContent")
        with Watch(run_dir, port=watch.port):
            await until_more_frames(page, 1)
            seen["back"] = await page.evaluate("document.body.dataset.game")
        seen["waiting"] = await look_before_the_first_checkpoint(page, run_dir)
    return seen


async def look_before_the_first_checkpoint(page, run_dir):
    stage = Stage()
    await stage.show(b'{"kind": "waiting", "reason": "No checkpoint yet."}')
    async with served(run_dir, stage) as url:
        await page.open(url)
        await page.wait_until("document.body.dataset.game === 'waiting'")
        return await page.evaluate("document.querySelector('header ~ #notice').innerText")


async def until_more_frames(page, count):
    drawn = await page.evaluate(FRAMES)
    await page.wait_until(f"{FRAMES} >= {drawn} + {count}")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    run = Run("local", tmp_path_factory.mktemp("seen") / "run", *CATCH, "--steps", "120")
    assert run.finish() == 0, run.stderr
    return asyncio.run(look(run.run_dir, tmp_path_factory.mktemp("profile")))


def test_the_page_draws_without_an_error(seen):
    assert seen["errors"] == []


def test_every_picture_shows_something(seen):
    assert len(seen["colours"]) == 4 + 15
    assert min(seen["colours"]) > 2  # opacity and black would be two values


def test_the_page_says_what_is_played_and_how_it_goes(seen):
    facts = seen["facts"]
    assert facts["task"] == "tests.learning.catch:make_env"
    assert facts["training"] == "Training has ended" and "Live" in facts["game"]
    assert int(facts["episode"]) >= 1 and "gradient step 1" in facts["weights"]
    assert all(facts[name] not in ("", "–") for name in ("t", "return", "value", "env-frames"))


def test_actions_have_bars_that_add_up_and_one_of_them_is_chosen(seen):
    assert sum(seen["facts"]["bars"]) == pytest.approx(100, abs=0.1)
    assert seen["facts"]["chosen"] == 1


def test_fifteen_dreamed_steps_have_a_value_and_a_reward(seen):
    dreams = seen["facts"]["dreams"]
    assert [text.split()[0] for text in dreams] == [f"+{k}" for k in range(1, 16)]
    assert all("V " in text and "R " in text for text in dreams)


def test_the_curves_of_run_and_episode_are_drawn(seen):
    assert min(seen["facts"]["curves"]) >= 1


def test_the_charts_of_the_run_stand_above_each_other_with_one_axis_of_frames(seen):
    returns, losses = seen["ticks"]
    assert len(returns) > 2 and returns == losses


def test_numbers_are_short_and_rounded_before_their_suffix_is_chosen(seen):
    small = ["0", "5.0e-4", "12.3", "999", "1k", "-1k"]
    assert seen["numbers"] == [*small, "123k", "1M", "1.5G", "–"]


def test_the_picture_of_the_page_is_not_blank(seen):
    image = cv2.imdecode(np.frombuffer(seen["picture"], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (800, 1280, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
    assert (image.max(-1) > 200).mean() > 0.01  # letters and balls are bright


def test_a_narrow_window_needs_no_scrolling_sideways(seen):
    assert seen["facts"]["overflow"] <= 0 and seen["narrow"]["overflow"] <= 0


def test_every_picture_has_a_name_for_those_who_cannot_see_it(seen):
    assert seen["facts"]["unnamed"] == 0


def test_before_the_first_checkpoint_the_page_says_what_it_waits_for(seen):
    assert seen["waiting"].startswith("No checkpoint yet. The game begins by itself")


def test_a_server_that_is_gone_is_tried_again_until_it_is_back(seen):
    assert (seen["lost"], seen["back"]) == ("Disconnected: trying again …", "playing")
