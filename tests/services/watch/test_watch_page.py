"""The page of `dreamer watch` in a real browser: what a person sees of a game."""

import asyncio
import base64
import json
import re
import time

import cv2
import numpy as np
import pytest

from services.watch.stage import Stage
from tests.browser import CONTRAST, OVERFLOW, REQUESTS, TOUCHING, browser, needs_chromium
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
SIZES = ((360, 740), (768, 1024), (1280, 800), (1920, 1080))
DRAWN = """new Promise((done) =>
  requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"""
GROUND = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
CELLS = """[...document.querySelectorAll("#actions.stick li")].map((x) => [x.title,
  x.style.gridColumnStart, x.style.gridRowStart, x.children[2].textContent,
  x.classList.contains("chosen")])"""
LIVE = "document.querySelector('#live').innerText"
NUMBERS = """import("/charts.js").then(({short}) =>
  [0, 0.0005, 12.34, 999.4, 999.7, -999.7, 123456, 999700, 1.5e9, NaN].map((x) => short(x)))"""
TICKS = """["returns", "losses"].map((id) =>
  [...document.querySelectorAll(`#${id} text[text-anchor=middle]:not([transform])`)].map((x) =>
    [Number(x.getAttribute("x")), x.textContent]))"""


async def look(run_dir, profile):
    """What the page shows: playing, in a narrow window, without its server, and with it again."""
    async with browser(profile) as page:
        with Watch(run_dir) as watch:
            watch.hurry()
            await page.open(watch.url)
            await page.wait_until(
                f"{FRAMES} >= 12 && document.querySelector('#returns circle') !== null"
            )
            seen = {"facts": json.loads(await page.evaluate(FACTS))}
            await watch_the_game(page, seen)
            seen["numbers"] = await page.evaluate(NUMBERS)
            seen["ticks"] = await page.evaluate(TICKS)
            seen["colours"] = await page.evaluate(PIXELS)
            seen["picture"] = await page.screenshot()
            seen["looks"] = [found async for found in looks_of(page)]
            seen["requests"] = await page.evaluate(REQUESTS)
            seen["errors"] = list(page.errors)
        await page.wait_until("document.body.dataset.game === 'lost'")
        seen["lost"] = await page.evaluate("document.querySelector('#game').textContent")
        with Watch(run_dir, port=watch.port) as again:
            again.hurry()
            await until_more_frames(page, 1)
            seen["back"] = await page.evaluate("document.body.dataset.game")
        seen["joystick"] = await look_at_a_joystick(page, run_dir)
        seen["waiting"] = await look_before_the_first_checkpoint(page, run_dir)
    return seen


async def looks_of(page):
    """Yields what may be wrong with how the page looks, by theme and size."""
    for theme in ("light", "dark"):
        await page.prefer(prefers_color_scheme=theme)
        contrast = await page.evaluate(CONTRAST)
        for size in SIZES:
            await page.resize(*size)
            await page.wait_until(f"innerWidth === {size[0]} && innerHeight === {size[1]}")
            await page.evaluate(DRAWN)
            found = [await page.evaluate(each) for each in (OVERFLOW, TOUCHING, GROUND)]
            yield (theme, *size), contrast, *found


async def watch_the_game(page, seen):
    """Pauses the game, lets it go on, and has actions sampled."""
    await page.evaluate("document.querySelector('#pause').click()")
    await page.wait_until("document.body.dataset.game === 'paused'")
    seen["paused"] = await page.evaluate("document.querySelector('#pause').textContent")
    await page.evaluate(
        "{const mode = document.querySelector('#mode'); mode.value = 'sample';"
        "mode.dispatchEvent(new Event('change'))}"
    )
    await page.wait_until("document.body.dataset.game !== 'paused'")
    await until_more_frames(page, 1)
    seen["chosen"] = await page.evaluate("document.querySelector('#mode').value")


async def look_at_a_joystick(page, run_dir):
    """A game of the console that starts late, is slower than it was asked for, and stands still."""
    stage = Stage()
    async with served(run_dir, stage) as url:
        await page.open(url)
        starting = await page.wait_until(f"{LIVE}.match(/.* so far/)?.[0]")
        looks = await page.wait_until("document.querySelector('#judged').innerText")
        await stage.show(json.dumps(joystick_frame()).encode())
        await page.wait_until("document.querySelectorAll('#actions.stick li').length === 18")
        return {
            "starting": starting,
            "judged at first": looks,
            "is cut off": await page.evaluate(
                "{document.querySelector('#task').textContent = 'pong';"
                "const {scrollWidth, clientWidth} = document.querySelector('#weights');"
                "scrollWidth > clientWidth}"
            ),
            "cells": await page.evaluate(CELLS),
            "state": await page.evaluate("document.body.dataset.game"),
            "live": await page.evaluate(LIVE),
            "still": await page.wait_until(f"{LIVE}.match(/.*no step for.*/)?.[0]"),
            "judged": await page.wait_until(
                "document.querySelector('#judged').textContent.match(/.*mean picture.*/)?.[0]"
            ),
        }


def joystick_frame():
    """A frame as the player sends it."""
    ways = ("", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")
    names = [f"{way}{fire}" or "NOOP" for fire in ("", "FIRE") for way in ways]
    png = base64.b64encode(cv2.imencode(".png", np.zeros((64, 15 * 64), np.uint8))[1]).decode()
    zeros = [0.0] * 16
    return {
        "kind": "frame", "t": 4, "is_last": False, "episode": 0, "mode": "greedy",
        "episode_return": 0.0, "reward": 0.0, "transformed_reward": 0.0, "reward_unit": "reward",
        "action_names": names, "is_discrete": True, "action": names.index("UPLEFTFIRE"),
        "preference": [0.004 if name == "UP" else 0.75 if name == "UPLEFTFIRE" else 0.0
                       for name in names],
        "value": zeros, "predicted_reward": zeros, "lives_on": zeros, "imagined_action": [0] * 15,
        "screen": png, "tiles": png, "imagined": png, "checkpoints": [7], "gradient_step": 7,
        "saved_s": time.time() - 125_000, "wanted_speed": 15.0, "step_s": 0.2, "step_cpu_s": 0.19,
        "still_error": 1.0, "problem": None,
    }  # fmt: skip


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
def seen(finished, tmp_path_factory):
    return asyncio.run(look(finished, tmp_path_factory.mktemp("profile")))


def test_the_page_draws_without_an_error(seen):
    assert seen["errors"] == []


def test_every_picture_shows_something(seen):
    assert len(seen["colours"]) == 5 + 16
    assert min(seen["colours"]) > 2  # opacity and black would be two values


def test_the_page_says_what_is_played_and_how_it_goes(seen):
    facts = seen["facts"]
    assert facts["task"] == "tests.learning.catch:make_env"
    assert facts["training"] == "Training has ended" and "Live" in facts["game"]
    assert re.fullmatch(r"Done after \d+ s, (final score|return) \S+", facts["took"])
    assert int(facts["episode"]) >= 1 and "gradient step 1" in facts["weights"]
    assert all(facts[name] not in ("", "–") for name in ("t", "return", "value", "env-frames"))


def test_actions_have_bars_that_add_up_and_one_of_them_is_chosen(seen):
    assert sum(seen["facts"]["bars"]) == pytest.approx(100, abs=0.1)
    assert seen["facts"]["chosen"] == 1


def test_now_and_fifteen_dreamed_steps_have_a_reward_and_a_line_of_values(seen):
    dreams = seen["facts"]["dreams"]
    assert [re.match(r"now|\+\d+", text)[0] for text in dreams] == [
        "now",
        *(f"+{k}" for k in range(1, 16)),
    ]
    assert all("R " in text for text in dreams)
    assert re.match(r"Value V: \S+ now, \S+ in 15 steps", seen["facts"]["values-words"])


def test_the_page_says_what_good_values_of_the_losses_are(seen):
    judged = seen["joystick"]["judged"]
    assert re.search(r"Image error \S+: \d+% of the mean picture's \S+\. Good: ", judged)
    assert re.search(r"KL \S+ of at most \S+ nats\. Good: ", judged)
    assert "share" not in seen["joystick"]["judged at first"]  # of what is not known yet


def test_the_game_is_paused_and_its_mode_chosen_on_the_page(seen):
    assert (seen["paused"], seen["chosen"]) == ("Play", "sample")


def test_a_joystick_has_its_positions_and_a_slow_game_says_why(seen):
    cells = {title: rest for title, *rest in seen["joystick"]["cells"]}
    assert cells["UPLEFTFIRE"] == ["5", "1", "75%", True] and cells["UP"] == [
        "2",
        "1",
        "<1%",
        False,
    ]
    assert cells["NOOP"][:2] == ["2", "2"] and cells["DOWNRIGHT"][:2] == ["3", "3"]
    assert seen["joystick"]["state"] == "slow"
    assert "5 of 15 policy steps/s: a step takes 190 ms here" in seen["joystick"]["live"]


def test_a_game_that_has_not_begun_or_stands_still_is_said_to(seen):
    assert re.fullmatch(r"Starting the game, \d+ s so far", seen["joystick"]["starting"])
    busy = "other programs have the processor"
    assert re.fullmatch(rf"Live, no step for \d+ s: {busy}", seen["joystick"]["still"])


def test_the_age_of_the_weights_is_not_cut_off_where_the_game_is_slow(seen):
    assert not seen["joystick"]["is cut off"]


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
    colours = image.astype(np.uint32) @ (1, 256, 256**2)
    assert len(np.unique(colours)) > 50


def test_in_both_themes_and_all_sizes_words_can_be_read_and_nothing_is_cut_off(seen):
    assert len(seen["looks"]) == 2 * len(SIZES)
    for (theme, *size), contrast, overflow, touching, ground in seen["looks"]:
        assert overflow <= 0 and contrast >= 4.5 and touching == [], (theme, size)
        assert (sum(ground) > 3 * 200) == (theme == "light")


def test_nothing_is_asked_of_others(seen):
    assert {url.split("/")[2].split(":")[0] for url in seen["requests"]} == {"127.0.0.1"}


def test_every_picture_has_a_name_for_those_who_cannot_see_it(seen):
    assert seen["facts"]["unnamed"] == 0


def test_before_the_first_checkpoint_the_page_says_what_it_waits_for(seen):
    assert seen["waiting"].startswith("No checkpoint yet. The game begins by itself")


def test_a_server_that_is_gone_is_tried_again_until_it_is_back(seen):
    assert seen["lost"] == "Disconnected: trying again …"
    assert seen["back"] in ("playing", "slow")  # as fast as this machine can
