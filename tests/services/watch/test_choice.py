"""How those who look want it played, and the last episode for them to keep."""

import asyncio
import io
import json
import time

import aiohttp
import numpy as np
import pytest
from PIL import Image

from dreamer_core.errors import BadInput
from services.watch.orders import Choice
from services.watch.stage import Stage
from tests.core.scores.examples import write_run
from tests.watching import comes_to_rest, frames, served, shown


@pytest.fixture
def run_dir(tmp_path):
    """Of a run hardly begun."""
    return write_run(tmp_path / "run", [])


def test_what_is_not_asked_for_stays_as_it_was():
    chosen = Choice(mode="sample").changed({"speed": 2, "checkpoint": 7})
    assert chosen == Choice(mode="sample", speed=2, checkpoint=7)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"speed": 0}, "speed 0"),
        ({"speed": "fast"}, "speed 'fast'"),
        ({"speed": 10**400}, "from 0.01 to 100"),
        ({"speed": 1e-300}, "from 0.01 to 100"),
        ({"speed": float("nan")}, "speed nan"),
        ({"mode": "random"}, "greedy or sample"),
        ({"checkpoint": -1}, "a gradient step"),
        ({"is_paused": 1}, "true or false"),
        ({"seed": 1}, "some of mode, speed"),
        ([], "a JSON object"),
    ],
)
def test_what_is_no_choice_is_refused(asked, part):
    with pytest.raises(BadInput, match=part):
        Choice().changed(asked)


async def last_episode(run_dir, *messages):
    """(status, head, content) of the film after these messages, and what is told of it."""
    stage = Stage()
    for message in messages:
        stage.last_episode.take(message)
    async with served(run_dir, stage) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}last-episode.webp") as answer:
            film = answer.status, answer.headers, await answer.read()
        async with session.get(f"{url}curve") as answer:
            return film, (await answer.json())["last_episode"]


def test_the_last_episode_that_was_played_to_its_end_can_be_kept(run_dir):
    cut = [shown(0, 3), shown(1, 0), shown(2, 0), shown(2, 1)]  # another mode, another player
    whole = [shown(2, 0), shown(2, 1), shown(2, 2, is_last=True)]
    waiting = b'{"kind": "waiting", "reason": ""}'
    film, facts = asyncio.run(last_episode(run_dir, *cut, *whole, waiting, shown(3, 0)))
    assert (facts["episode"], facts["policy_steps"], facts["episode_return"]) == (3, 2, 1.5)
    status, headers, content = film
    assert status == 200 and "episode-3-return-1.5.webp" in headers["Content-Disposition"]
    image = Image.open(io.BytesIO(content))
    assert image.n_frames == 3 and image.size == (2 * 3 * 192 + 4, 3 * 64)
    image.seek(2)
    assert abs(np.asarray(image.convert("L"))[:, 5].mean() - 80) < 10
    assert image.info["duration"] == 1000


def test_before_an_episode_has_ended_there_is_none_to_keep(run_dir):
    (status, _, words), facts = asyncio.run(last_episode(run_dir, shown(0, 0)))
    assert (status, facts) == (404, None) and b"No episode has ended yet" in words


# While it is played


@pytest.fixture
def as_before(watch):
    """Whatever a test chooses is taken back."""
    yield watch
    choice = {"mode": "greedy", "speed": 20, "checkpoint": None, "is_paused": False}
    assert watch.choose(choice) == (200, choice)


def test_another_mode_begins_another_episode_for_all_who_look(as_before):
    with as_before.looking() as one, as_before.looking() as other:
        before = frames(one, 1)[0]
        assert as_before.choose({"mode": "sample"})[1]["mode"] == "sample"
        for messages in (one, other):
            first = next(x for x in messages if x["mode"] == "sample")
            assert before["mode"] == "greedy" and first["episode"] > before["episode"]
    assert json.loads(as_before.get("/curve")[2])["choice"]["mode"] == "sample"


def test_a_checkpoint_can_be_chosen_and_one_that_is_gone_is_told(as_before):
    with as_before.looking() as messages:
        (step,) = frames(messages, 1)[0]["checkpoints"]
        as_before.choose({"checkpoint": step})
        assert frames(messages, 3)[-1]["gradient_step"] == step
        as_before.choose({"checkpoint": 7})
        told = next(x for x in messages if x["problem"])
    assert "no checkpoint 7" in told["problem"] and told["gradient_step"] == step


def test_a_paused_game_stands_still_until_it_goes_on(as_before):
    with as_before.looking() as messages:
        frames(messages, 1)
        as_before.choose({"is_paused": True})
        time.sleep(0.3)
        assert comes_to_rest(as_before.player(), seconds=0.7, most_cpu_s=0.02)
        as_before.choose({"is_paused": False})
        frames(messages, 3)


@pytest.mark.parametrize("asked", [{"speed": 0}, "{", "1" * 600])
def test_a_choice_that_is_none_is_refused_and_changes_nothing(watch, asked):
    before = json.loads(watch.get("/curve")[2])["choice"]
    assert watch.choose(asked)[0] in (400, 413)
    assert json.loads(watch.get("/curve")[2])["choice"] == before


def test_pages_of_other_sites_and_forms_choose_nothing(watch):
    assert watch.choose({"speed": 2}, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert watch.choose({"speed": 2}, **{"Content-Type": "text/plain"})[0] == 415
    assert watch.choose("{", **{"Content-Type": "application/json; charset=foo"})[0] == 400
    assert watch.choose({"speed": 2}, Host="evil.example")[0] == 403
