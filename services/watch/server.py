"""`dreamer watch`: a web page of the agent at play beside what its world model dreams."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import tyro
from aiohttp import web

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.storage import checkpoint
from dreamer_core.storage.named import DEMO_DIRECTORY, run_named
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths, holder, read_config
from dreamer_core.storage.store import Store, open_store
from services.watch.curves import RunCurves
from services.watch.orders import PlayerOptions
from services.watch.stage import Stage, play

DEFAULT_PORT = 8764
SLOW_CLIENT_S = 10.0
"""Longest wait for a client to take one message before its connection is cut."""
_ATARI_FRAMES_PER_SECOND = 60
_OTHER_POLICY_STEPS_PER_SECOND = 15.0
_POLL_S = 0.2
_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("watch.html", "text/html"),
    "/watch.css": ("watch.css", "text/css"),
    "/watch.js": ("watch.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Where the page is served and how the agent plays on it."""

    port: int = DEFAULT_PORT
    """TCP port of the page; 0 picks a free one and says which."""
    address: str = "127.0.0.1"
    """Interface to listen on; loopback unless others are to look, who need no password."""
    mode: Literal["greedy", "sample"] = "greedy"
    """The actor's mode, or a sample of it; the latent state is sampled in both."""
    speed: float = 1.0
    """Times real speed: Atari has 60 frames a second; others play 15 policy steps a second."""
    seed: int = 0
    """Of environment and samples."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise BadInput(f"--port {self.port} is no TCP port; choose 0 to 65535")
        if not 0 < self.speed < math.inf:
            raise BadInput(f"--speed {self.speed}: wanted a number above 0")
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: wanted 0 or more")


@dataclass(frozen=True, kw_only=True)
class WatchCommand(PageOptions):
    """Serves a page with the agent at play and its dreams, with the newest checkpoint of a run."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, running or not, or `demo`: the agent that comes with this program."""


class PageNotServed(BadInput):
    """The page cannot be served where it was to be."""


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
    asyncio.run(_serve(command, config, on_listening, should_stop))


def _store(config: Config, paths: RunPaths) -> Store:
    return open_store(config.checkpoint, paths.checkpoints)


async def _serve(
    command: WatchCommand,
    config: Config,
    on_listening: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    stage = Stage()
    runner = web.AppRunner(
        make_app(command, config, stage),
        access_log=None,
        handler_cancellation=True,  # a tab that is closed is noticed at once
        shutdown_timeout=0.1,  # streams have no end of their own
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, command.address, command.port).start()
        except OSError as error:
            raise _explained(error, command) from error
        on_listening(_url(command.address, runner.addresses[0][1]))
        playing = asyncio.create_task(play(_player_options(command, config), stage))
        while not (should_stop() or playing.done()):
            await asyncio.wait([playing], timeout=_POLL_S)
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing
    finally:
        await runner.cleanup()


def make_app(command: WatchCommand, config: Config, stage: Stage) -> web.Application:
    """Returns the page's server: `/` and its files, `/stream` of frames, `/curve` of the run."""
    app = web.Application(middlewares=[_guard(command.address)])
    app.on_response_prepare.append(_add_headers)
    for place, (name, kind) in _FILES.items():
        app.router.add_get(place, _file((_PAGE / name).read_text(encoding="utf-8"), kind))
    app.router.add_get("/stream", _stream(stage), allow_head=False)  # it would have no end
    app.router.add_get("/curve", _curve(command, config))
    return app


def _guard(address: str) -> Any:
    """Refuses requests that name another host or are made by a page of another site.

    A page of another site can have its own name resolved to this machine; what tells its requests
    apart is the name in their Host header. What browsers say of other sites' requests is believed
    for what costs work; a link to the page itself is harmless.
    """
    own = {"localhost", "127.0.0.1", "::1", address} if _is_loopback(address) else None

    @web.middleware
    async def guard(request: web.Request, handler: _Endpoint) -> web.StreamResponse:
        if own is not None and _host_name(request) not in own:
            return web.Response(
                status=403,
                text="Refused: this page is only served under a name of this machine, such as "
                "localhost. To serve it to others, start dreamer watch with --address.\n",
            )
        is_foreign = request.headers.get("Sec-Fetch-Site") == "cross-site"
        if is_foreign and request.path in ("/stream", "/curve"):
            return web.Response(status=403, text="Refused: only the page of this server may ask.\n")
        return await handler(request)

    return guard


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Adds headers against foreign scripts to whatever is answered, refusals included."""
    response.headers.update(_HEADERS)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _host_name(request: web.Request) -> str | None:
    """Returns the name in the Host header, without port and brackets."""
    try:
        return urlsplit(f"//{request.host}").hostname
    except ValueError:
        return None


def _file(content: str, kind: str) -> _Endpoint:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text=content, content_type=kind)

    return handle


def _stream(stage: Stage) -> _Endpoint:
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


def _curve(command: WatchCommand, config: Config) -> _Endpoint:
    """JSON of what the run is, where it stands, and its learning curves."""
    curves = RunCurves(command.run_dir / METRICS_FILE)
    facts = {
        "run": command.run_dir.resolve().name,
        "preset": config.preset,
        "task": config.env.task,
        "seed": config.seed,
        "mode": command.mode,
        "total_policy_steps": config.steps,
    }

    async def handle(_request: web.Request) -> web.Response:
        read = await asyncio.to_thread(curves.read_on)
        now = {"now_s": time.time(), "trainer": holder(RunPaths(command.run_dir))}
        return web.json_response(facts | now | read)

    return handle


def _player_options(command: WatchCommand, config: Config) -> PlayerOptions:
    real_speed = (
        _ATARI_FRAMES_PER_SECOND / config.env.action_repeat
        if config.env.suite == "atari"
        else _OTHER_POLICY_STEPS_PER_SECOND
    )
    return PlayerOptions(
        run_dir=str(command.run_dir),
        mode=command.mode,
        policy_steps_per_second=command.speed * real_speed,
        seed=command.seed,
        gives_way=command.run_dir != DEMO_DIRECTORY,  # beside that one nobody trains
    )


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


def _explained(error: OSError, command: WatchCommand) -> PageNotServed:
    """Returns the error with what was wanted and what to do."""
    where = f"{command.address}:{command.port}"
    if error.errno == errno.EADDRINUSE:
        return PageNotServed(
            f"The page was to be served on {where}, but another program listens there; name a "
            "free port with --port, or 0 to have one picked"
        )
    return PageNotServed(
        f"The page cannot be served on {where} ({error.strerror}); name another port with --port, "
        "or an address of this machine with --address"
    )
