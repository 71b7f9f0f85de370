"""A headless Chromium, driven over its DevTools protocol, for tests of pages."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
from pathlib import Path

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser (Debian package chromium)"
)
_START_S, _ANSWER_S = 60.0, 60.0

# What is wrong on no page: JavaScript that a test evaluates.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
REQUESTS = """performance.getEntriesByType("resource").map((x) => x.name)
  .filter((x) => !x.startsWith("data:"))"""
# Texts of one chart, or of its axes, that cover each other.
TOUCHING = """[...document.querySelectorAll("svg")].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll("text")].map((x) =>
    [x.textContent, x.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
    p.width && p.left < q.right && q.left < p.right && p.top + 2 < q.bottom && q.top + 2 < p.bottom
  ).map(([b]) => `${a} | ${b}`));
})"""
# The smallest contrast of any words with what is behind them (WCAG 2).
CONTRAST = """(() => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    const part = (x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    return a ? 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b) : null;
  };
  let least = 21;
  const words = "p, a, td, th, dt, dd, li, h1, h2, button, select, text, summary, figcaption";
  for (const each of document.querySelectorAll(words)) {
    let behind = each, ground = null;
    while ((ground = light(getComputedStyle(behind).backgroundColor)) === null) {
      behind = behind.parentElement;
    }
    const style = getComputedStyle(each);
    const ink = light(each.tagName === "text" ? style.fill : style.color);
    const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (!each.closest(".odds")) least = Math.min(least, ratio);
  }
  return least;
})()"""


class Page:
    """One tab, and what went wrong in it."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self.errors = []
        """Uncaught exceptions and messages of the console that tell of an error."""

    async def open(self, url, *, width=1280, height=800):
        """Loads a page into a window of this size."""
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable")
        await self.resize(width, height)
        await self._call("Page.navigate", url=url)
        await self.wait_until(f"document.readyState === 'complete' && location.href === '{url}'")

    async def resize(self, width, height):
        """Gives the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._call("Emulation.setDeviceMetricsOverride", **size)

    async def prefer(self, **features):
        """Has the page see what a user prefers, such as `prefers_color_scheme="dark"`."""
        listed = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        await self._call("Emulation.setEmulatedMedia", features=listed)

    async def evaluate(self, expression):
        """Returns the value of a JavaScript expression, awaited if it is a promise."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def wait_until(self, expression, timeout_s=120):
        """Returns the expression's first true value."""
        async with asyncio.timeout(timeout_s):
            while not (value := await self.evaluate(expression)):
                await asyncio.sleep(0.1)
            return value

    async def screenshot(self):
        """The whole window as PNG."""
        answer = await self._call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    async def _call(self, method, **arguments):
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": arguments})
        async with asyncio.timeout(_ANSWER_S):
            while True:
                message = json.loads((await self._socket.receive()).data)
                if message.get("id") == number:
                    assert "error" not in message, message
                    return message["result"]
                self._note(message)

    def _note(self, message):
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        entry = message.get("params", {}).get("entry", {})
        if entry.get("level") == "error":
            self.errors.append(entry["text"])


@contextlib.asynccontextmanager
async def browser(profile: Path):
    """Yields a tab of a browser that ends with the block; `profile` is a directory of its own."""
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"),
        *("--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}"),
        "about:blank",
        env={**os.environ, "HOME": str(profile)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _devtools_port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            url = await _tab(session, f"http://127.0.0.1:{port}/json/list")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()


async def _tab(session, list_url):
    """Where the only tab is spoken to; the browser may answer before it has one."""
    async with asyncio.timeout(_START_S):
        while True:
            async with session.get(list_url) as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            if tabs:
                (tab,) = tabs
                return tab["webSocketDebuggerUrl"]
            await asyncio.sleep(0.05)


async def _devtools_port(path):
    async with asyncio.timeout(_START_S):
        while not (path.exists() and (lines := path.read_text().splitlines())):
            await asyncio.sleep(0.05)
        return int(lines[0])
