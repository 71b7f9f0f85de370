"""Where a sweep and each of its runs stand, as values; read from the runs' metrics."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from dreamer_core.report.read import METRICS_FILE, LogLine, read_jsonl
from services.sweep.directory import SCORED_EPISODES
from services.sweep.plan import RunKey

logger = logging.getLogger(__name__)

Phase = Literal["done", "running", "waiting", "failed"]
_FIRST_TAIL_BYTES = 1_000_000
_TAIL_BYTES = 65_536  # more than a run writes between two looks
_RATE_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where one run of a sweep stands."""

    key: RunKey
    total_policy_steps: int
    """Policy steps after which it ends."""
    phase: Phase = "waiting"
    node: str = ""
    """Name of the machine that it runs on, or ran on last."""
    failures: int = 0
    """How often it has failed since the sweep was started."""
    reason: str = ""
    """Why it failed last."""
    policy_step: int = 0
    mean_return: float | None = None
    """Of its newest training episodes, as many as are scored in the end."""
    episodes: int = 0
    """How many those are."""
    policy_steps_per_second: float | None = None
    """None while it does not run, or has said nothing yet."""


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """Where a sweep stands."""

    runs: tuple[RunState, ...]

    def __str__(self) -> str:
        phases: tuple[Phase, ...] = get_args(Phase)
        return ", ".join(f"{self.count(phase)} {phase}" for phase in phases)

    def count(self, phase: Phase) -> int:
        """How many runs are in a phase."""
        return sum(run.phase == phase for run in self.runs)

    def where(self, phase: Phase) -> list[RunState]:
        """The runs that are in a phase."""
        return [run for run in self.runs if run.phase == phase]

    @property
    def is_over(self) -> bool:
        """Whether every run is done or has failed for good."""
        return all(run.phase in ("done", "failed") for run in self.runs)

    @property
    def share(self) -> float:
        """Part of all policy steps that is taken, in [0, 1]."""
        taken = sum(min(run.policy_step, run.total_policy_steps) for run in self.runs)
        return taken / sum(run.total_policy_steps for run in self.runs)

    @property
    def policy_steps_per_second(self) -> float | None:
        """Of all running runs together; None while none of them has said."""
        speeds = [run.policy_steps_per_second for run in self.where("running")]
        known = [speed for speed in speeds if speed is not None]
        return sum(known) if known else None

    @property
    def time_left_s(self) -> float | None:
        """Seconds until all runs are done at the present speed; None while that is not known."""
        speed = self.policy_steps_per_second
        if not speed:
            return None
        to_do = [run for run in self.runs if run.phase in ("waiting", "running")]
        return sum(max(0, run.total_policy_steps - run.policy_step) for run in to_do) / speed


class ProgressReader:
    """Follows the metrics of one run by the end of their file, which is cheap.

    Args:
        run_dir: of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_FILE
        self._tail_bytes = _FIRST_TAIL_BYTES
        self._newest_s = 0.0
        self._begun_s = 0.0
        self._returns: dict[int, float] = {}
        self._has_told_damage = False

    def begin(self) -> None:
        """Speeds of before do not count any more: the run is started again."""
        self._begun_s = self._newest_s

    def read(self, state: RunState) -> RunState:
        """Returns the state with what the run has written since."""
        lines, damaged = list[LogLine](), list[str]()
        with suppress(OSError):  # a file system that is away for a while; the run goes on
            lines = read_jsonl(self._path, tail_bytes=self._tail_bytes, damaged=damaged)
        if damaged and not self._has_told_damage:
            self._has_told_damage = True
            logger.warning("The progress of %s leaves out damaged lines: %s", state.key, damaged[0])
        if not lines:
            return state
        self._tail_bytes, self._newest_s = _TAIL_BYTES, lines[-1].wall_time_s
        self._take_returns(lines)
        returns = self._returns.values()
        return replace(
            state,
            policy_step=lines[-1].policy_step,
            mean_return=sum(returns) / len(returns) if returns else None,
            episodes=len(returns),
            policy_steps_per_second=self._speed(lines),
        )

    def _take_returns(self, lines: Sequence[LogLine]) -> None:
        for line in lines:
            if line.service != "evaluator":
                for episode in line.episodes:
                    if math.isfinite(episode.episode_return):
                        self._returns[episode.policy_step] = episode.episode_return
        newest = sorted(self._returns.items())[-SCORED_EPISODES:]
        self._returns = dict(newest)

    def _speed(self, lines: Sequence[LogLine]) -> float | None:
        since_s = max(self._begun_s, self._newest_s - _RATE_WINDOW_S)
        speeds = [
            line.values["dreamer_policy_steps_per_second"]
            for line in lines
            if line.wall_time_s > since_s and "dreamer_policy_steps_per_second" in line.values
        ]
        return sum(speeds) / len(speeds) if speeds else None
