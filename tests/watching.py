"""`dreamer watch` as a user starts it, and its clients, for tests."""

import base64
import contextlib
import http.client
import json
import os
import re
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
from aiohttp import web

from dreamer_core.storage.run_directory import read_config
from services.watch.command import WatchCommand
from services.watch.server import make_app
from tests.runs import DREAMER, ROOT


class Served:
    """A process of `dreamer` that serves a page; `variables` are of its environment."""

    def __init__(self, *words, port=0, **variables):
        self.process = subprocess.Popen(
            [DREAMER, *words, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        found = re.search(r"http://\S+:(\d+)/", self.process.stdout.readline())
        assert found, self.process.communicate(timeout=60)
        self.url, self.port = found[0], int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def get(self, path, method="GET", body=None, **headers):
        """(status, headers, content) of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def choose(self, body, **headers):
        """(status, answer) where JSON, or anything, is asked for of the way it is played."""
        headers = {"Content-Type": "application/json"} | headers
        text = body if isinstance(body, str) else json.dumps(body)
        status, _, content = self.get("/choice", "POST", text, **headers)
        return status, json.loads(content) if status == 200 else content.decode()

    @contextlib.contextmanager
    def looking(self):
        """Yields the messages as they come, to one who looks for the length of the block."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=200)
        with contextlib.closing(connection):
            connection.request("GET", "/stream")
            answer = connection.getresponse()
            assert answer.headers["Content-Type"] == "text/event-stream"
            lines = iter(answer.readline, b"")
            yield (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
            connection.sock.close()

    def player(self):
        """Process id of the process that plays."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not (children := path.read_text().split()):  # it starts when the page is served
            time.sleep(0.05)
        return int(children[0])

    def stop(self):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            self.stdout, self.stderr = self.process.communicate(timeout=60)
        return self.process.returncode


class Watch(Served):
    """A `dreamer watch` process that listens.

    Its player leaves the processor to whatever else wants it, which tests beside this one may do
    for minutes. So it is given its share as soon as somebody looks, where root runs the tests;
    `gave_way` is whether it had left it.
    """

    def __init__(self, run_dir, *options, port=0):
        self.gave_way = None
        super().__init__("watch", run_dir, *options, port=port)

    @contextlib.contextmanager
    def looking(self):
        """As of what it is; see the class."""
        self.hurry()
        with super().looking() as messages:
            yield messages

    def hurry(self):
        """Gives the player its share; see the class."""
        if self.gave_way is not None:
            return
        player, give_up_s = self.player(), time.monotonic() + 100
        while not gives_way(player) and time.monotonic() < give_up_s:
            time.sleep(0.05)
        self.gave_way = gives_way(player)
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{player}/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
            Path(f"/proc/{player}/autogroup").write_text("0")


@contextlib.asynccontextmanager
async def served(run_dir, stage):
    """Serves a run's page with whatever is shown on the stage; yields its URL."""
    command = WatchCommand(run_dir=run_dir)
    app = make_app(command, read_config(run_dir), stage)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def shown(episode, t, *, is_last=False):
    """A message of the player, with a dark picture."""
    png = base64.b64encode(cv2.imencode(".png", np.full((64, 192), 40 * t, np.uint8))[1]).decode()
    facts = {"episode": episode, "t": t, "is_last": is_last, "episode_return": 1.5}
    facts |= {"gradient_step": 7, "mode": "greedy", "screen": png, "tiles": png}
    return json.dumps({"kind": "frame", **facts}).encode()


def frames(messages, count):
    """The next frames, other messages left out."""
    found = []
    for message in messages:
        if message["kind"] == "frame":
            found.append(message)
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {len(found)} frames")


def gives_way(pid):
    """Whether a process gets only processor time that is left over."""
    with contextlib.suppress(ProcessLookupError):
        group = Path(f"/proc/{pid}/autogroup")
        is_last = not group.exists() or group.read_text().strip().endswith("nice 19")
        return is_last and os.sched_getscheduler(pid) == os.SCHED_IDLE
    return False


def comes_to_rest(*pids, seconds, most_cpu_s):
    """Whether processes use no more processor time than this in so many seconds, within a minute.

    An order reaches a player late that gets only what processor time is left over.
    """
    for _ in range(int(60 / seconds)):
        before = sum(map(cpu_seconds, pids))
        time.sleep(seconds)
        if sum(map(cpu_seconds, pids)) - before <= most_cpu_s:
            return True
    return False


def cpu_seconds(pid):
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
