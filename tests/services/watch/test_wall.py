"""The wall of a sweep's runs: what its server answers, and what a person sees."""

import asyncio
import contextlib
import threading
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from dreamer_core.presets import preset
from dreamer_core.report.log import RunLog
from dreamer_core.report.report import EpisodeSummary, Report
from dreamer_core.storage.run_directory import RunDirectoryError, open_run
from services.watch import wall
from services.watch.command import WatchCommand
from services.watch.curves import RunCurves
from services.watch.wall import Wall, make_wall_app
from tests.browser import browser, needs_chromium
from tests.core.replay.counting import CONFIG, Replay, rows_of
from tests.watching import shown

SIZES = ((360, 800), (1440, 900))
STATES = {"pong_0": "running", "pong_1": "failed", "boxing_0": "waiting"}
SHOWN = """({
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  games: [...document.querySelectorAll("h2")].map((x) => x.firstChild.textContent),
  states: [...document.querySelectorAll(".run")].map((x) => x.dataset.is),
  links: [...document.querySelectorAll("a.run")].map((x) => x.getAttribute("href")),
  curves: [...document.querySelectorAll(".curve")].map((x) =>
    x.querySelector("polyline")?.getAttribute("points").split(" ").length ?? 0),
  pictures: document.querySelectorAll(".picture img[alt]").length,
  words: document.body.innerText,
  ground: getComputedStyle(document.body).backgroundColor,
})"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A run that has stored rows and reported, one that failed before it did, one not begun."""
    root = tmp_path_factory.mktemp("sweep")
    for name in ("pong_0", "pong_1"):
        with open_run(root / name, preset("debug")):
            pass
    image = np.full((9, 64, 64, 1), 200, np.uint8)
    replay = Replay(root / "pong_0" / "replay", CONFIG, image_shape=(64, 64, 1), action_size=2)
    replay.insert(replace(rows_of(0, 0, 9), image=image))
    replay.close()
    with RunLog(root / "pong_0", frames_per_policy_step=4) as log:
        for step in (100, 200, 300):
            episode = EpisodeSummary(policy_step=step, episode_return=step / 10, length=100)
            report = Report(service="collector", values={}, episodes=(episode,))
            log.write(report, policy_step=step, gradient_step=1)
    return root


def told(root, problem=None):
    """What is read of the sweep."""
    if problem is not None:
        raise RunDirectoryError(problem)
    runs = [
        {"name": name, "run": str(root / name), "game": name[:-2], "seed": int(name[-1]),
         "state": state, "reason": "the licence ran out" if state == "failed" else "",
         "failures": int(state == "failed"), "steps": 1000, "env_frame": 1200 if n == 0 else 0,
         "policy_step": 300 if n == 0 else 0, "mean_return": 20.0 if n == 0 else None,
         "evaluation_return": None, "env_frames_per_second": 40.0 if n == 0 else None}
        for n, (name, state) in enumerate(STATES.items())
    ]  # fmt: skip
    states = {state: list(STATES.values()).count(state) for state in STATES.values()}
    return {"sweep": str(root), "preset": "debug", "holder": "process 1 on box", "games": 2,
            "states": states | {"done": 0}, "games_done": 0, "done_ratio": 0.1, "env_frames": 1200,
            "env_frames_per_second": 40.0, "time_left_s": 4000.0, "runs": runs}  # fmt: skip


@contextlib.asynccontextmanager
async def served(root, look):
    app = make_wall_app(Wall(WatchCommand(run_dir=root, port=0), look), "127.0.0.1")
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def answers(root, *places, look=None, **headers):
    """(status, JSON or bytes) of each place, asked for in order."""
    found = []
    async with (
        served(root, look or (lambda: told(root))) as url,
        aiohttp.ClientSession() as session,
    ):
        for place in places:
            async with session.get(url + place, headers=headers) as answer:
                is_json = answer.content_type == "application/json"
                found.append((answer.status, await (answer.json() if is_json else answer.read())))
    return found


async def wall_with_curves(root):
    """What the wall tells once it has read the first curve."""
    async with (
        served(root, lambda: told(root)) as url,
        aiohttp.ClientSession() as session,
        asyncio.timeout(60),
    ):
        while True:
            async with session.get(f"{url}wall") as answer:
                stand = await answer.json()
            if stand["runs"][0]["curves"] is not None:
                return stand
            await asyncio.sleep(0.05)


def test_the_wall_has_each_run_with_its_curve_and_its_newest_picture(sweep):
    stand = asyncio.run(wall_with_curves(sweep))
    _, picture, none = asyncio.run(answers(sweep, "wall", "pictures/pong_0", "pictures/pong_1"))
    first, second, third = stand["runs"]
    assert [point[0] for point in first["curves"]["mean_return"]] == [400, 800, 1200]
    assert [run["has_page"] for run in (first, second, third)] == [True, True, False]
    assert picture[0] == 200 and picture[1].startswith(b"\x89PNG") and none[0] == 404


def test_each_run_has_its_own_page_below_the_wall_and_others_have_none(sweep):
    places = ("", "charts.js", "curve", "none")
    found = asyncio.run(answers(sweep, *(f"runs/pong_0/{place}" for place in places)))
    assert [status for status, _ in found] == [200, 200, 200, 404]
    assert b"watch.js" in found[0][1] and found[2][1]["task"] == "pong"
    places = ("runs/boxing_0/", "runs/none/", "runs/..%2f..%2fetc/", "pictures/..%2fpong_0")
    found = asyncio.run(answers(sweep, *places, "runs/pong_0/choice"))
    assert [status for status, _ in found] == [404] * 4 + [405]  # a choice is made by POST alone
    assert b"boxing_0 cannot be shown yet" in found[0][1] and b"no run none" in found[1][1]


async def choose(root, run, **wanted):
    """Status and answer where it is chosen how a run on the wall is played."""
    async with (
        served(root, lambda: told(root)) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}runs/{run}/choice", json=wanted) as answer,
    ):
        return answer.status, await answer.json()


def test_how_a_run_is_played_is_chosen_on_its_own_page(sweep):
    status, choice = asyncio.run(choose(sweep, "pong_0", speed=2))
    assert (status, choice["speed"], choice["mode"]) == (200, 2, "greedy")


def test_a_page_of_another_site_gets_neither_wall_nor_games(sweep):
    places = ("wall", "runs/pong_0/stream", "runs/pong_0/curve", "pictures/pong_0", "runs/pong_0/")
    found = asyncio.run(answers(sweep, *places, **{"Sec-Fetch-Site": "cross-site"}))
    assert [status for status, _ in found] == [403] * 4 + [200]  # to a page it may link


async def play_one_episode(_options, stage):
    """In place of the process that plays."""
    for t in range(2):
        stage.last_episode.take(shown(0, t, is_last=t == 1))
        await stage.show(b"{}")
    await asyncio.Event().wait()


async def films_once_nobody_looks(root):
    """Statuses of the film to keep while somebody looks, and once the game has ended."""
    async with served(root, lambda: told(root)) as url, aiohttp.ClientSession() as session:

        async def status():
            async with session.get(f"{url}runs/pong_0/last-episode.webp") as answer:
                return answer.status

        async with session.get(f"{url}runs/pong_0/stream") as stream:
            await stream.content.readline()
            found = [await status()]
        async with asyncio.timeout(60):
            while (after := await status()) == found[0]:
                await asyncio.sleep(0.1)
        return [*found, after]


def test_the_film_of_a_game_that_nobody_looks_at_is_freed(sweep, monkeypatch):
    monkeypatch.setattr(wall, "play", play_one_episode)
    monkeypatch.setattr(wall, "_IDLE_S", 0.5)
    assert asyncio.run(films_once_nobody_looks(sweep)) == [200, 404]


async def games_seen_by_who_comes_while_one_ends(root, monkeypatch):
    """How many games have begun once a second person sees one, who came while the first ended."""
    games, is_ending, may_end = [], asyncio.Event(), asyncio.Event()

    async def play(_options, stage):
        games.append(stage)
        await stage.show(f'{{"game": {len(games)}}}'.encode())
        try:
            await asyncio.Event().wait()
        finally:
            is_ending.set()
            await may_end.wait()

    monkeypatch.setattr(wall, "play", play)
    monkeypatch.setattr(wall, "_IDLE_S", 0.5)
    async with served(root, lambda: told(root)) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}runs/pong_0/stream") as stream:
            await stream.content.readline()
        async with asyncio.timeout(60):
            await is_ending.wait()
        async with asyncio.timeout(60), session.get(f"{url}runs/pong_0/stream") as stream:
            may_end.set()
            while b'"game": 2' not in await stream.content.readline():
                pass
    return len(games)


def test_who_comes_in_the_moment_in_which_a_game_ends_gets_another(sweep, monkeypatch):
    assert asyncio.run(games_seen_by_who_comes_while_one_ends(sweep, monkeypatch)) == 2


def test_logs_that_are_not_begun_when_the_wall_ends_are_not_read(sweep, monkeypatch):
    has_begun, may_end, read = threading.Event(), threading.Event(), []

    def read_on(curves):
        read.append(curves)
        has_begun.set()
        may_end.wait(60)
        return {"curves": {}}

    async def end_while_the_first_is_read():
        wall = Wall(WatchCommand(run_dir=sweep), lambda: told(sweep))
        lasting = asyncio.create_task(wall.last())
        await wall.stand(None)
        await asyncio.to_thread(has_begun.wait, 60)
        lasting.cancel()
        await asyncio.wait([lasting])
        may_end.set()

    monkeypatch.setattr(RunCurves, "read_on", read_on)
    asyncio.run(end_while_the_first_is_read())
    assert len(read) == 1


def test_a_sweep_that_goes_away_is_told_on_the_wall(sweep):
    found = asyncio.run(answers(sweep, "wall", look=lambda: told(sweep, "it is gone")))
    assert found == [(200, {"problem": "it is gone"})]


async def look_at(root, profile):
    """What the wall shows at each size, light and dark."""
    seen = {}
    async with served(root, lambda: told(root)) as url, browser(profile) as page:
        for theme, (width, height) in zip(("light", "dark"), SIZES, strict=True):
            await page.prefer(prefers_color_scheme=theme)
            await page.open(url, width=width, height=height)
            await page.wait_until("document.querySelector('.curve polyline') !== null && "
                                  "document.querySelector('.picture img') !== null")  # fmt: skip
            seen[width] = await page.evaluate(SHOWN)
        await page.evaluate("document.querySelector('button[data-state=failed]').click()")
        seen["failed"] = await page.evaluate(SHOWN)
        seen["errors"] = page.errors
    return seen


@needs_chromium
def test_a_person_sees_every_run_small_in_both_themes_and_sizes(sweep, tmp_path):
    seen = asyncio.run(look_at(sweep, tmp_path))
    assert seen["errors"] == []
    for width, _ in SIZES:
        shown = seen[width]
        assert shown["overflow"] <= 0 and shown["games"] == ["pong", "boxing"]
        assert shown["states"] == list(STATES.values()) and shown["pictures"] == 1
        assert shown["links"] == ["runs/pong_0/", "runs/pong_1/"]
        assert shown["curves"] == [3, 0, 0] and "the licence ran out" in shown["words"]
    assert seen[360]["ground"] != seen[1440]["ground"]
    assert seen["failed"]["states"] == ["failed"]
