"""What `dreamer watch` and `demo` are asked for; known without PyTorch and aiohttp."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from dreamer_core.errors import BadInput
from services.watch.orders import LEAST_SPEED, MOST_SPEED

DEFAULT_PORT = 8764


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
    """0.01 to 100 times real speed: Atari has 60 frames a second, others 15 policy steps."""
    seed: int = 0
    """Of environment and samples."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise BadInput(f"--port {self.port} is no TCP port; choose 0 to 65535")
        if not LEAST_SPEED <= self.speed <= MOST_SPEED:
            between = f"{LEAST_SPEED:g} to {MOST_SPEED:g}"
            raise BadInput(f"--speed {self.speed}: wanted a number from {between}")
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: wanted 0 or more")


@dataclass(frozen=True, kw_only=True)
class WatchCommand(PageOptions):
    """Serves a page with the agent at play and its dreams, with the newest checkpoint of a run."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, running or not, or `demo`: the agent that comes with this program. Of a
    sweep: a wall of its runs, which leads to the page of each."""
