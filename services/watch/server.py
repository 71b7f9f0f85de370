"""`dreamer watch`: a web page of the agent at play beside what its world model dreams."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.storage import checkpoint
from dreamer_core.storage.named import DEMO_DIRECTORY, run_named
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths, holder, read_config
from dreamer_core.storage.store import Store, open_store
from services.watch.command import PageOptions, WatchCommand
from services.watch.curves import RunCurves
from services.watch.orders import Choice, PlayerOptions
from services.watch.site import file, guarded_app, serve
from services.watch.stage import Stage, play

SLOW_CLIENT_S = 10.0
"""Longest wait for a client to take one message before its connection is cut."""
_ATARI_FRAMES_PER_SECOND = 60
_OTHER_POLICY_STEPS_PER_SECOND = 15.0
_PAGE = Path(__file__).with_name("page")
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def watch(
    command: WatchCommand,
    *,
    on_listening: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Serves the page until a stop is asked for.

    Args:
        command: what to show and where.
        on_listening: is told the URL.
        should_stop: asked several times a second.

    Raises:
        RunDirectoryError: there is no run, or it has no checkpoint and is not running.
        PageNotServed: the port is in use, or the address is not of this machine.
        PlayerEnded: the environment failed, or the process that plays was killed.
        StorageFailed: the place of the checkpoints cannot be read.
    """
    command = replace(command, run_dir=run_named(command.run_dir))
    config = read_config(command.run_dir)
    paths = RunPaths(command.run_dir)
    if holder(paths) is None and checkpoint.newest(_store(config, paths)) is None:
        raise RunDirectoryError(
            f"Wanted a checkpoint to play with, but {command.run_dir} has none and nobody trains "
            f"there; they are written every {config.checkpoint.interval_s:g} s and when a run stops"
        )
    stage = new_stage(command)
    playing = play(player_options(command, config), stage)
    app = make_app(command, config, stage)
    serving = serve(
        app,
        command.address,
        command.port,
        playing,
        on_listening=on_listening,
        should_stop=should_stop,
    )
    asyncio.run(serving)


def _store(config: Config, paths: RunPaths) -> Store:
    return open_store(config.checkpoint, paths.checkpoints)


def make_app(command: WatchCommand, config: Config, stage: Stage) -> web.Application:
    """Returns the page's server: the page at `/`, and what it asks for; see `endpoints`."""
    app = guarded_app(command.address)
    for place, endpoint in endpoints(command, config, stage).items():
        if place == "choice":
            app.router.add_post(f"/{place}", endpoint)
        else:
            app.router.add_get(f"/{place}", endpoint, allow_head=place != "stream")  # it has no end
    return app


def endpoints(command: WatchCommand, config: Config, stage: Stage) -> dict[str, Handler]:
    """Returns what answers for the page of a run, by the place below it; `` is the page itself.

    `stream` has the frames, `curve` the run, `last-episode.webp` the game to keep; `choice` takes,
    by POST alone, how it is to be played.
    """
    return {
        **page_files(_PAGE),
        "stream": _stream(stage),
        "curve": _curve(command, config, stage),
        "last-episode.webp": _last_episode(_real_speed(config), stage),
        "choice": _choice(stage),
    }


def page_files(directory: Path) -> dict[str, Handler]:
    """Returns what answers with the files of a page by their names; with its HTML at ``."""
    return {
        "" if path.suffix == ".html" else path.name: file(path, _KINDS[path.suffix])
        for path in directory.iterdir()
    }


def new_stage(command: PageOptions) -> Stage:
    """Returns an empty stage on which it is played as the command says until somebody chooses."""
    return Stage(Choice(mode=command.mode, speed=command.speed))


def _stream(stage: Stage) -> Handler:
    """Server-sent events: the newest message whenever the client has taken the one before."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        with stage.looking():
            await response.prepare(request)
            number = 0
            while True:
                number, message = await stage.after(number)
                try:
                    async with asyncio.timeout(SLOW_CLIENT_S):
                        await response.write(b"data: " + message + b"\n\n")
                except (TimeoutError, ConnectionError):
                    if request.transport is not None:
                        request.transport.abort()  # what it did not take is dropped
                    return response

    return handle


def _curve(command: WatchCommand, config: Config, stage: Stage) -> Handler:
    """JSON of what the run is, where it stands, its learning curves, and how it is played."""
    curves = RunCurves(command.run_dir / METRICS_FILE)
    model = config.world_model
    is_categorical = model.latent == "categorical"
    facts = {
        "run": command.run_dir.resolve().name,
        "preset": config.preset,
        "task": config.env.task,
        "seed": config.seed,
        "total_policy_steps": config.steps,
        "is_demo": command.run_dir == DEMO_DIRECTORY,
        "free_nats": model.free_nats,
        "most_nats": model.stoch * math.log(model.classes) if is_categorical else None,
    }

    async def handle(_request: web.Request) -> web.Response:
        read = await asyncio.to_thread(curves.read_on)
        now = {
            "now_s": time.time(),
            "trainer": holder(RunPaths(command.run_dir)),
            "choice": asdict(stage.choice),
            "last_episode": whole.facts if (whole := stage.last_episode.whole) else None,
        }
        return web.json_response(facts | now | read)

    return handle


def _choice(stage: Stage) -> Handler:
    """Takes JSON of what is to change in the `Choice`; answers with all of it."""

    async def handle(request: web.Request) -> web.Response:
        if request.content_type != "application/json":  # which no page of another site can send
            return web.Response(status=415, text="Wanted application/json.\n")
        try:
            stage.choose(stage.choice.changed(json.loads(await request.read())))
        except (ValueError, BadInput) as error:
            return web.Response(status=400, text=f"Refused: {error}\n")
        return web.json_response(asdict(stage.choice))

    return handle


def _last_episode(real_speed: float, stage: Stage) -> Handler:
    """A film of the last episode that was played to its end."""

    async def handle(_request: web.Request) -> web.Response:
        episode = stage.last_episode.whole
        if episode is None:
            return web.Response(status=404, text="No episode has ended yet.\n")
        film, facts = await asyncio.to_thread(episode.as_webp, real_speed), episode.facts
        name = f"episode-{facts['episode']}-return-{facts['episode_return']:g}.webp"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=film, content_type="image/webp", headers=headers)

    return handle


def _real_speed(config: Config) -> float:
    """Policy steps a second."""
    if config.env.suite == "atari":
        return _ATARI_FRAMES_PER_SECOND / config.env.action_repeat
    return _OTHER_POLICY_STEPS_PER_SECOND


def player_options(command: WatchCommand, config: Config) -> PlayerOptions:
    """Returns what is played, how and how fast."""
    return PlayerOptions(
        run_dir=str(command.run_dir),
        real_speed=_real_speed(config),
        seed=command.seed,
        gives_way=command.run_dir != DEMO_DIRECTORY,  # beside that one nobody trains
    )
