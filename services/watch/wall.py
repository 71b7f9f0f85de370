"""`dreamer watch` of a sweep: a wall of its runs, each small, that leads to the page of each."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from dreamer_core.errors import DreamerError
from dreamer_core.replay.reader import newest_image
from dreamer_core.report.read import METRICS_FILE, Point
from dreamer_core.storage.run_directory import RunPaths, read_config
from services.watch.command import WatchCommand
from services.watch.curves import RunCurves
from services.watch.server import endpoints, new_stage, player_options
from services.watch.site import file, guarded_app, serve
from services.watch.stage import play

logger = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("wall_page")
_FILES = {
    "": (_PAGE / "wall.html", "text/html"),
    "wall.css": (_PAGE / "wall.css", "text/css"),
    "wall.js": (_PAGE / "wall.js", "text/javascript"),
    "charts.js": (_PAGE.with_name("page") / "charts.js", "text/javascript"),
}
_CURVES = ("mean_return", "evaluation")
_CURVE_POINTS = 80
_IDLE_S = 30.0  # without anybody who looks, after which a game ends

Look = Callable[[], dict[str, Any]]
"""Reads where a sweep stands, as JSON with `runs`, each with its `name` and directory (`run`)."""


def watch_wall(
    command: WatchCommand,
    look: Look,
    *,
    on_listening: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Serves the wall until a stop is asked for.

    Args:
        command: where to serve, and how the agents play on their pages.
        look: is asked whenever somebody looks at the wall.
        on_listening: is told the URL.
        should_stop: asked several times a second.

    Raises:
        BadInput: the sweep cannot be read.
        PageNotServed: the port is in use, or the address is not of this machine.
    """
    look()  # what is wrong with it is told before anything is served
    wall = Wall(command, look)
    serving = serve(
        make_wall_app(wall, command.address),
        command.address,
        command.port,
        wall.last(),
        on_listening=on_listening,
        should_stop=should_stop,
    )
    asyncio.run(serving)


def make_wall_app(wall: Wall, address: str) -> web.Application:
    """Returns the server: the wall, what it shows, and below `/runs/NAME/` the page of each run."""
    app = guarded_app(address)
    for place, (path, kind) in _FILES.items():
        app.router.add_get(f"/{place}", file(path, kind))
    app.router.add_get("/wall", wall.stand)
    app.router.add_get("/pictures/{name}", wall.picture)
    app.router.add_get("/runs/{name}/{place:.*}", wall.page_of_run, allow_head=False)
    app.router.add_post("/runs/{name}/{place:choice}", wall.page_of_run)
    return app


class Wall:
    """Answers for the wall and for the page of each run on it.

    Args:
        command: how the agents play on their pages.
        look: reads where the sweep stands.
    """

    def __init__(self, command: WatchCommand, look: Look) -> None:
        self._command, self._look = command, look
        self._looking = Lock()  # a request that is cancelled leaves its thread looking
        self._run_dirs: dict[str, Path] = {}
        self._readers: dict[str, RunCurves] = {}
        self._curves: dict[str, dict[str, list[Point]]] = {}
        self._pages: dict[str, _RunPage] = {}
        self._reading: asyncio.Future[None] | None = None
        self._is_ending = False

    async def last(self) -> None:
        """Stays until it is cancelled, and then ends the games that are played."""
        try:
            await asyncio.Event().wait()
        finally:
            self._is_ending = True
            await asyncio.gather(*(page.end() for page in self._pages.values()))

    async def stand(self, _request: web.Request) -> web.Response:
        """JSON of where the sweep and each run stand, with the curves that are read by now."""
        try:
            told = await asyncio.to_thread(self._look_alone)
        except DreamerError as error:
            return web.json_response({"problem": str(error)})
        self._run_dirs = {run["name"]: Path(run["run"]) for run in told["runs"]}
        if self._reading is None or self._reading.done():  # a long log takes seconds
            dirs = dict(self._run_dirs)
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read_curves, dirs))
        runs = [
            run
            | {
                "has_page": RunPaths(self._run_dirs[run["name"]]).config.exists(),
                "curves": self._curves.get(run["name"]),
            }
            for run in told["runs"]
        ]
        return web.json_response(told | {"now_s": time.time(), "runs": runs})

    def _look_alone(self) -> dict[str, Any]:
        with self._looking:
            return self._look()

    def _read_curves(self, run_dirs: Mapping[str, Path]) -> None:
        for name, run_dir in run_dirs.items():
            if self._is_ending:  # the end of the command waits for this thread
                return
            reader = self._readers.setdefault(name, RunCurves(run_dir / METRICS_FILE))
            try:
                curves = reader.read_on()["curves"]
            except OSError as error:
                logger.warning("%s is shown without its newest curve: %s", run_dir, error)
                continue
            self._curves[name] = {each: _thinned(curves.get(each, ())) for each in _CURVES}

    async def picture(self, request: web.Request) -> web.Response:
        """The image that the run stored last, as a PNG."""
        name = request.match_info["name"]
        if name not in self._run_dirs:
            raise web.HTTPNotFound
        png = await asyncio.to_thread(self._newest_picture, name)
        if png is None:
            raise web.HTTPNotFound
        return web.Response(body=png, content_type="image/png")

    def _newest_picture(self, name: str) -> bytes | None:
        from services.watch.png import png_of  # noqa: PLC0415 (the wall is there sooner)

        image = newest_image(RunPaths(self._run_dirs[name]).replay)
        return None if image is None else png_of(image)

    async def page_of_run(self, request: web.Request) -> web.StreamResponse:
        """Answers for the page of one run, whose game begins when somebody looks at it."""
        name, place = request.match_info["name"], request.match_info["place"]
        if place == "choice" and request.method != "POST":
            raise web.HTTPMethodNotAllowed(request.method, ["POST"])
        if name not in self._run_dirs:  # nobody has looked at the wall since the start
            await self.stand(request)
        try:
            page = self._page(name)
        except KeyError:
            return web.Response(status=404, text=f"There is no run {name} in this sweep.\n")
        except DreamerError as error:
            return web.Response(status=404, text=f"{name} cannot be shown yet. {error}\n")
        if place not in page.endpoints:
            raise web.HTTPNotFound
        if place == "stream":
            page.begin()
        return await page.endpoints[place](request)

    def _page(self, name: str) -> _RunPage:
        if name not in self._pages:
            command = replace(self._command, run_dir=self._run_dirs[name])
            self._pages[name] = _RunPage(command)
        return self._pages[name]


class _RunPage:
    """The page of one run.

    Args:
        command: what to show, and how.

    Raises:
        RunDirectoryError: the run has not begun.
    """

    def __init__(self, command: WatchCommand) -> None:
        config = read_config(command.run_dir)
        self._run_dir, self._stage = command.run_dir, new_stage(command)
        self._options = player_options(command, config)
        self._playing: asyncio.Task[None] | None = None
        self._is_ending = False  # which takes a moment, in which somebody may come
        self._is_over = False
        self.endpoints: Mapping[str, Handler] = endpoints(command, config, self._stage)

    def begin(self) -> None:
        """Has the game played while somebody looks, if it is not."""
        if self._is_over:
            return
        if self._playing is None or self._playing.done() or self._is_ending:
            self._is_ending = False
            self._playing = asyncio.create_task(self._play(after=self._playing))

    async def end(self) -> None:
        """Ends the game, and has none begin."""
        self._is_over = True
        if self._playing is not None:
            self._playing.cancel()
            with suppress(asyncio.CancelledError):
                await self._playing

    async def _play(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        playing = asyncio.create_task(play(self._options, self._stage))
        try:
            left_s = _IDLE_S
            while left_s > 0 and not playing.done():
                await asyncio.wait([playing], timeout=1.0)
                left_s = _IDLE_S if self._stage.order.is_looked_at else left_s - 1.0
        finally:
            self._is_ending = True
            playing.cancel()
            await asyncio.wait([playing])
        if playing.cancelled():
            self._stage.last_episode.forget()  # nobody looks, and a wall has many runs
        elif (error := playing.exception()) is not None:
            logger.error("The game of %s has ended: %s", self._run_dir, error)
            told = {"kind": "failed", "reason": str(error)}
            await self._stage.show(json.dumps(told).encode())


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Returns at most _CURVE_POINTS of them, the newest among these, with four digits."""
    every = -(-len(points) // _CURVE_POINTS) or 1
    kept = [*reversed(points[::-1][::every])]
    return [(round(x), float(f"{y:.4g}")) for x, y in kept]
