"""A page on this machine: its server, and what keeps pages of other sites out of it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from dreamer_core.errors import BadInput
from services.addresses import host_port

_POLL_S = 0.2
_MOST_ASKED_BYTES = 500
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageNotServed(BadInput):
    """The page cannot be served where it was to be."""


async def serve(
    app: web.Application,
    address: str,
    port: int,
    working: Coroutine[Any, Any, None],
    *,
    on_listening: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Serves an app, and does the work behind it, until that ends or a stop is asked for.

    Raises:
        PageNotServed: the port is in use, or the address is not of this machine.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a tab that is closed is noticed at once
        shutdown_timeout=0.1,  # streams have no end of their own
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError as error:
            working.close()
            raise _explained(error, address, port) from error
        on_listening(f"http://{host_port(address, runner.addresses[0][1])}/")
        task = asyncio.create_task(working)
        while not (should_stop() or task.done()):
            await asyncio.wait([task], timeout=_POLL_S)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    finally:
        await runner.cleanup()


def guarded_app(address: str) -> web.Application:
    """Returns a server without places that keeps pages of other sites out."""
    app = web.Application(middlewares=[_guard(address)], client_max_size=_MOST_ASKED_BYTES)
    app.on_response_prepare.append(_add_headers)
    return app


def _guard(address: str) -> Any:
    """Refuses requests that name another host or are made by a page of another site.

    A page of another site can have its own name resolved to this machine; what tells its requests
    apart is the name in their Host header. What browsers say of other sites' requests is believed;
    a link to a page, whose place ends with a slash, is harmless.
    """
    own = {"localhost", "127.0.0.1", "::1", address} if _is_loopback(address) else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if own is not None and _host_name(request) not in own:
            return web.Response(
                status=403,
                text="Refused: this page is only served under a name of this machine, such as "
                "localhost. To serve it to others, start dreamer watch with --address.\n",
            )
        is_foreign = request.headers.get("Sec-Fetch-Site") == "cross-site"
        if is_foreign and not request.path.endswith("/"):
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


def file(path: Path, kind: str) -> Handler:
    """Answers with a file, as it is now."""
    content = path.read_text(encoding="utf-8")

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text=content, content_type=kind)

    return handle


def _explained(error: OSError, address: str, port: int) -> PageNotServed:
    """Returns the error with what was wanted and what to do."""
    place = host_port(address, port)
    if error.errno == errno.EADDRINUSE:
        return PageNotServed(
            f"The page was to be served on {place}, but another program listens there; name a "
            "free port with --port, or 0 to have one picked"
        )
    return PageNotServed(
        f"The page cannot be served on {place} ({error.strerror}); name another port with --port, "
        "or an address of this machine with --address"
    )
