"""The page of `dreamer report` in a real browser, opened from a file."""

import asyncio

import cv2
import numpy as np
import pytest

from dreamer_core.page.contents import read_contents
from dreamer_core.page.page import page
from tests.browser import CONTRAST, OVERFLOW, REQUESTS, TOUCHING, browser, needs_chromium
from tests.core.page.examples import a_look, a_run

pytestmark = needs_chromium
PHONE, DESKTOP = (360, 740), (1280, 800)
FILM = """(() => {
  const player = document.querySelector(".player");
  const [button, slider, output] = player.querySelectorAll("button, input, output");
  return {
    label: button.textContent, at: Number(slider.value), said: output.value,
    place: player.querySelector(".stage").style.backgroundPosition,
  };
})()"""


async def look(path, profile):
    """What the page shows in both themes, to those who want movement and to those who do not."""
    seen = {}
    async with browser(profile) as tab:
        await tab.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
        await tab.open(path.as_uri(), width=DESKTOP[0], height=DESKTOP[1])
        await tab.evaluate(
            "document.querySelector('.player').scrollIntoView({behavior: 'instant'})"
        )
        await asyncio.sleep(0.5)
        seen["still"] = await tab.evaluate(FILM)
        seen["contrast"] = [await tab.evaluate(CONTRAST)]
        seen["light"] = await tab.screenshot()
        seen["touching"] = await tab.evaluate(TOUCHING)
        seen["wide"] = await tab.evaluate(OVERFLOW)
        await tab.evaluate("document.querySelector('#theme').click()")
        seen["contrast"].append(await tab.evaluate(CONTRAST))
        seen["dark"] = await tab.screenshot()
        seen["requests"] = await tab.evaluate(REQUESTS)
        await tab.prefer(prefers_color_scheme="dark", prefers_reduced_motion="no-preference")
        await tab.open(f"{path.as_uri()}?again", width=PHONE[0], height=PHONE[1])
        await tab.evaluate(
            "document.querySelector('.player').scrollIntoView({behavior: 'instant'})"
        )
        seen["moving"] = await tab.wait_until(f"((film) => film.at > 1 && film)({FILM})")
        await tab.evaluate("document.querySelector('.play').click()")
        seen["paused"] = await tab.evaluate(FILM)
        await asyncio.sleep(0.5)
        seen["paused later"] = await tab.evaluate(FILM)
        seen["narrow"] = await tab.evaluate(OVERFLOW)
        seen["phone"] = await tab.screenshot()
        seen["errors"] = list(tab.errors)
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    runs = [
        a_run(place / f"{preset}_{task}_{seed}", task=task, seed=seed, preset=preset)
        for preset in ("atari", "a_preset_of_a_very_long_name_that_nobody_knows")
        for task in ("pong", "montezuma_revenge")
        for seed in (0, 1)
    ]
    path = place / "report.html"
    path.write_text(page(read_contents(runs, a_look)))
    return asyncio.run(look(path, tmp_path_factory.mktemp("profile")))


def test_it_opens_from_a_file_without_an_error_and_asks_for_nothing(seen):
    assert seen["errors"] == [] and seen["requests"] == []


def test_nothing_needs_scrolling_sideways(seen):
    assert seen["wide"] <= 0 and seen["narrow"] <= 0


def test_words_of_a_chart_do_not_touch(seen):
    assert seen["touching"] == []


def test_words_can_be_read_in_both_themes(seen):
    assert min(seen["contrast"]) >= 4.5


def test_the_theme_is_that_of_the_system_until_it_is_changed(seen):
    light, dark, phone = (
        cv2.imdecode(np.frombuffer(seen[name], np.uint8), cv2.IMREAD_GRAYSCALE)
        for name in ("light", "dark", "phone")
    )
    assert np.median(light) > 200 and np.median(dark) < 60 and np.median(phone) < 60
    assert len(np.unique(phone)) > 30


def test_films_play_can_be_paused_and_stand_still_for_those_who_want_no_motion(seen):
    assert seen["still"]["label"] == "Play" and seen["still"]["at"] == 0
    assert seen["still"]["said"] == "step 0, seen"
    moving, paused = seen["moving"], seen["paused"]
    assert moving["label"] == "Pause" and moving["place"] != seen["still"]["place"]
    assert paused["label"] == "Play" and seen["paused later"] == paused
