"""`dreamer watch`: one game for all who look, none for nobody, and only under its own name."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
import pytest

from services.watch import server as watching
from services.watch.curves import RunCurves
from services.watch.orders import PlayerOptions
from services.watch.stage import PlayerEnded, Stage, play
from tests.commands import exit_code_of
from tests.runs import CATCH, Run
from tests.watching import Watch, comes_to_rest, frames, served

FAST = ("--speed", "20")


def image_of(text):
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_UNCHANGED)


# What is served


def test_the_page_and_its_files_come_from_this_server_alone(watch):
    for path, kind in (("/", "text/html"), ("/watch.js", "text/javascript")):
        status, headers, content = watch.get(path)
        assert status == 200 and headers["Content-Type"].startswith(kind)
        assert b"https://" not in content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path in ("/config.json", "/../pyproject.toml", "/page/watch.html", "/watch.py"):
        assert watch.get(path)[0] == 404


def test_frames_arrive_step_by_step_with_all_that_the_page_shows(watch):
    with watch.looking() as messages:
        first, second = frames(messages, 2)
    assert second["t"] > first["t"] or second["episode"] > first["episode"]
    assert len(first["value"]) == len(first["predicted_reward"]) == 16
    assert sum(first["preference"]) == pytest.approx(1, abs=1e-3)
    assert len(first["preference"]) == len(first["action_names"]) == 3
    assert first["gradient_step"] > 0 and first["saved_s"] <= time.time()
    assert image_of(first["tiles"]).shape[:2] == (64, 3 * 64)
    assert image_of(first["imagined"]).shape[:2] == (64, 15 * 64)
    assert image_of(first["screen"]).shape[:2] == (64, 64)


def test_the_screen_shown_is_the_models_input_where_no_other_is_known(watch):
    with watch.looking() as messages:
        for frame in frames(messages, 3):
            assert np.array_equal(image_of(frame["screen"]), image_of(frame["tiles"])[:, :64])


def test_all_who_look_see_the_same_game(watch):
    games, shared = ({}, {}), set()
    with watch.looking() as one, watch.looking() as other:
        while len(shared) < 9 and len(games[0]) < 5000:  # who came first may be far behind
            for game, messages in zip(games, (one, other), strict=True):
                game.update({(x["episode"], x["t"]): x for x in frames(messages, 3)})
            shared = games[0].keys() & games[1].keys()
    assert len(shared) >= 9
    assert all(games[0][moment] == games[1][moment] for moment in shared)


def test_the_curve_says_what_the_run_is_and_where_it_stands(watch):
    status, headers, content = watch.get("/curve")
    run = json.loads(content)
    assert status == 200 and headers["Cache-Control"] == "no-store"
    assert (run["preset"], run["trainer"], run["policy_step"]) == ("debug", None, 120)
    assert run["curves"]["return"] and run["curves"]["kl"]


# Who looks


def test_nobody_plays_while_nobody_looks(watch):
    with watch.looking() as messages:
        frames(messages, 3)
    time.sleep(0.5)  # the closed connection is noticed
    assert comes_to_rest(watch.player(), watch.process.pid, seconds=2, most_cpu_s=0.06)
    with watch.looking() as messages:
        frames(messages, 3)


def test_the_player_gets_only_processor_time_that_is_left_over(watch):
    watch.hurry()
    assert watch.gave_way


async def show_beside_one_who_reads_nothing(run_dir, messages):
    """Shows messages to a client that reads each and to one that does not; counts those read."""
    stage, num_read = Stage(), 0
    async with served(run_dir, stage) as url, aiohttp.ClientSession() as session:
        _, stuck = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, limit=1024)
        stuck.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with session.get(f"{url}stream") as answer:
            for message in messages:
                await stage.show(message)
                while not (await answer.content.readline()).startswith(b"data: " + message[:9]):
                    pass
                num_read += 1
        async with asyncio.timeout(60):
            while stage.order.is_looked_at:  # until the stuck one is cut off
                await stage.order_after(stage.order)
        stuck.close()
    return num_read


def test_a_client_that_reads_nothing_is_cut_off_and_holds_up_nobody(finished, monkeypatch):
    monkeypatch.setattr(watching, "SLOW_CLIENT_S", 0.5)
    messages = [b"%09d" % number + b"x" * 50_000 for number in range(200)]
    assert asyncio.run(show_beside_one_who_reads_nothing(finished, messages)) == 200


# Who may


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "["])
@pytest.mark.parametrize("path", ["/", "/stream", "/curve"])
def test_a_request_under_a_foreign_name_is_refused(watch, host, path):
    status, _, content = watch.get(path, Host=host)
    assert status in (400, 403) and b"<canvas" not in content


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:80"])
def test_a_name_of_this_machine_is_let_in_whatever_the_port_of_a_tunnel(watch, host):
    assert watch.get("/", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [("/", "localhost", 200), ("/none", "localhost", 404), ("/", "evil.example", 403)],
)
def test_every_answer_has_the_headers_against_foreign_scripts(watch, path, host, status):
    found, headers, _ = watch.get(path, Host=host)
    assert found == status
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/stream", "/curve", "/last-episode.webp"])
def test_a_page_of_another_site_gets_neither_game_nor_curves(watch, path):
    assert watch.get(path, **{"Sec-Fetch-Site": "cross-site"})[0] == 403


def test_a_link_from_another_site_and_a_request_of_the_page_itself_are_let_in(watch):
    assert watch.get("/", **{"Sec-Fetch-Site": "cross-site"})[0] == 200
    assert watch.get("/curve", **{"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_a_request_for_the_head_of_the_endless_stream_is_refused(watch):
    assert watch.get("/stream", method="HEAD")[0] == 405


async def reload_while_the_curves_are_read(run_dir, monkeypatch):
    """Cancels a request for the curves while its thread reads; returns the answer to the next."""
    take = RunCurves._take
    monkeypatch.setattr(RunCurves, "_take", lambda *given: (time.sleep(0.02), take(*given)))
    async with served(run_dir, Stage()) as url, aiohttp.ClientSession() as session:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.get(f"{url}curve")
        async with session.get(f"{url}curve") as answer:
            return await answer.json()


def test_a_tab_that_is_reloaded_while_the_curves_are_read_does_not_spoil_them(
    finished, tmp_path, monkeypatch
):
    lines = (finished / "metrics.jsonl").read_bytes()
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    (tmp_path / "metrics.jsonl").write_bytes(lines)
    assert lines.count(b"\n") > 5
    found = asyncio.run(reload_while_the_curves_are_read(tmp_path, monkeypatch))
    whole = json.loads(json.dumps(RunCurves(tmp_path / "metrics.jsonl").read_on()))
    assert found["curves"] == whole["curves"]


# Refusals and ends


@pytest.fixture
def refused(capsys, monkeypatch):
    """Runs the command, which must be refused as bad input, and returns its one paragraph."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        code = exit_code_of("watch", *arguments)
        words = capsys.readouterr().err
        assert code == 2, words
        assert "Traceback" not in words and "\n\n" not in words.strip()
        return " ".join(words.split())

    return run


def test_a_port_in_use_is_told_with_what_to_do(finished, refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = refused(finished, "--port", taken.getsockname()[1])
    assert "another program listens there" in words and "--port" in words


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--port", "70000"), "--port 70000"),
        (("--speed", "1e-300"), "--speed 1e-300: wanted a number from 0.01 to 100"),
        (("--address", "192.0.2.1"), "--address"),
    ],
)
def test_what_cannot_be_served_is_refused(finished, refused, options, part):
    assert part in refused(finished, *options)


def test_a_directory_without_a_run_is_refused(refused, tmp_path):
    assert "holds no config.json" in refused(tmp_path)


def test_a_run_that_never_saved_and_does_not_train_is_refused(finished, refused, tmp_path):
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    words = refused(tmp_path)
    assert "Wanted a checkpoint" in words and "nobody trains" in words


def test_a_player_that_is_killed_ends_the_command_and_leaves_nothing_behind(finished):
    with Watch(finished, *FAST) as watch, watch.looking() as messages:
        frames(messages, 1)
        os.kill(watch.player(), signal.SIGKILL)
        _, stderr = watch.process.communicate(timeout=60)
        assert watch.process.returncode == 1 and "exit code -9" in " ".join(stderr.split())


def test_the_player_ends_with_a_command_that_is_killed(finished):
    watch = Watch(finished, *FAST)
    watch.hurry()
    player = watch.player()
    watch.process.kill()
    watch.process.wait()
    assert ends(player)


def is_alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def ends(pid):
    """Whether a process ends within a minute."""
    give_up_s = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return not is_alive(pid)


async def play_until_its_first_message(options):
    """Plays until there is a message, then ends that."""
    stage = Stage()
    with stage.looking():
        playing = asyncio.create_task(play(options, stage))
        async with asyncio.timeout(200):
            await stage.after(0)
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing


def test_a_message_that_a_kill_has_torn_is_not_shown(tmp_path, monkeypatch):
    player = tmp_path / "player"
    player.write_text("#!/bin/sh\nprintf '{}\\n{\"torn'; kill -9 $$\n")
    player.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(player))
    options, stage = PlayerOptions(run_dir="", real_speed=1, seed=0), Stage()
    with pytest.raises(PlayerEnded, match="exit code -9"):
        asyncio.run(play(options, stage))
    assert stage._newest == b"{}"


def test_what_the_environment_started_ends_with_the_player(finished, tmp_path, monkeypatch):
    config = (finished / "config.json").read_text()
    task = "tests.services.failing_env:make_env_with_a_process"
    (tmp_path / "config.json").write_text(config.replace("tests.learning.catch:make_env", task))
    monkeypatch.setenv("SLEEPER_FILE", str(tmp_path / "sleeper"))
    options = PlayerOptions(run_dir=str(tmp_path), real_speed=20.0, seed=0, gives_way=False)
    asyncio.run(play_until_its_first_message(options))
    assert ends(int((tmp_path / "sleeper").read_text()))


# Beside a run


def test_a_run_is_watched_from_before_its_first_checkpoint_until_after_its_end(tmp_path):
    often = ("--checkpoint.interval-s", "3", "--steps", "100000")
    run = Run("local", tmp_path / "run", *CATCH, *often)
    run.wait_until((tmp_path / "run" / "config.json").exists)
    with Watch(tmp_path / "run", *FAST) as watch, watch.looking() as messages:
        waiting = next(messages)
        early = frames(messages, 1)[0]
        assert waiting["kind"] == "frame" or "No checkpoint yet" in waiting["reason"]
        renewed = next(x for x in messages if x["gradient_step"] > early["gradient_step"])
        assert json.loads(watch.get("/curve")[2])["trainer"] is not None
        run.terminate()
        assert run.finish() == 143
        assert frames(messages, 2)[-1]["gradient_step"] >= renewed["gradient_step"]
        assert json.loads(watch.get("/curve")[2])["trainer"] is None


def test_ctrl_c_ends_the_command_as_it_ends_all_others(finished):
    with Watch(finished, *FAST) as watch, watch.looking() as messages:
        frames(messages, 1)
        watch.process.send_signal(signal.SIGINT)
        _, stderr = watch.process.communicate(timeout=60)
        assert (watch.process.returncode, stderr) == (130, "")
