"""docker-compose.yml on an engine of a test's own, watched from outside."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from tests.docker.engine import Engine, engine, make_base_image

PORT = "9464"
_PROMETHEUS_PORT, _WATCH_PORT = "9090", "8764"
_GET = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as response:
    sys.stdout.write(response.read().decode())
"""
_OPTIONS = (  # a run that trains within seconds, has short episodes and does not end by itself
    "--steps 1000000 --schedule.prefill-policy-steps 200 --checkpoint.interval-s 5"
    " --env.time-limit-steps 100"
)
_FILES = ("-f", "docker-compose.yml", "-f", "tests/docker/build.yml")
_BUILD = ("compose", *_FILES, "build", "head", "prometheus")


class Stack:
    """The stack of docker-compose.yml.

    Args:
        engine: it runs on.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def compose(self, *arguments: str, timeout_s: float = 900, **environment: str) -> str:
        """Returns what a docker compose command prints."""
        environment = {"DREAMER_OPTIONS": _OPTIONS, "COMPOSE_DISABLE_ENV_FILE": "1", **environment}
        return self.engine.docker("compose", *arguments, timeout_s=timeout_s, **environment)

    def inside(self, service: str, *command: str) -> str:
        """Returns what a command in a service's container prints."""
        return self.compose("exec", "-T", service, *command)

    def container(self, service: str) -> str:
        """Id of a service's container, up or not."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def crash(self, service: str) -> None:
        """Kills the first process of a service's container."""
        self.engine.crash(self.container(service))

    def restarts(self, service: str) -> int:
        """How often the engine has started a service's container again."""
        return self.engine.inspect(self.container(service))["RestartCount"]

    def is_healthy(self, service: str) -> bool:
        """Whether a service's container says that it does its work."""
        state = self.engine.inspect(self.container(service))["State"]
        return state["Health"]["Status"] == "healthy"

    def scrape(self) -> dict[tuple[str, ...], float]:
        """What Prometheus would see now on the published port, {} while nothing answers."""
        try:
            text = self._get(PORT, "metrics")
        except AssertionError:
            return {}
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def ask_prometheus(self, path: str, **parameters: str) -> Any:
        """Returns what the Prometheus of the stack answers on its published port."""
        answer = self._get(_PROMETHEUS_PORT, f"api/v1/{path}?{urlencode(parameters)}")
        return json.loads(answer)["data"]

    def page(self, path: str) -> str:
        """What the page of `dreamer watch` answers on its published port."""
        return self._get(_WATCH_PORT, path)

    def gradient_steps(self) -> float:
        """Gradient steps that the run has taken, 0 while nobody says."""
        return self.scrape().get(("dreamer_gradient_steps_total",), 0.0)

    def policy_steps(self) -> float:
        """Policy steps that the run has stored, 0 while nobody says."""
        return self.scrape().get(("dreamer_policy_steps_total",), 0.0)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 400) -> None:
        """Waits for what must come true."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"not within {timeout_s} s; {self.scrape()}"
            time.sleep(1)

    def _get(self, port: str, path: str) -> str:
        url = f"http://127.0.0.1:{port}/{path}"
        return self.engine.beside(sys.executable, "-S", "-c", _GET, url)


@contextlib.contextmanager
def running_stack(directory: Path) -> Generator[Stack]:
    """Builds the image and has the stack up until the block ends.

    Args:
        directory: for images, containers and volumes.
    """
    with engine(directory, has_networks=False) as builder:
        make_base_image(builder, directory)
        builder.docker(*_BUILD)
    with engine(directory, has_networks=True) as runner:
        stack = Stack(runner)
        try:
            stack.compose("up", "--wait", "--no-build")
            yield stack
        finally:
            stack.compose("--profile=*", "down", "--volumes", "--timeout=5")
