"""Where a sweep and each of its runs stand, as values; read from the runs' metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from dreamer_core.report.evaluated import SCORED_TRAINING_EPISODES
from dreamer_core.report.history import RunHistory
from dreamer_core.report.read import METRICS_FILE, LogReader
from services.sweep.directory import Score
from services.sweep.plan import RunKey

logger = logging.getLogger(__name__)

Phase = Literal["done", "running", "waiting", "failed"]
PHASES: tuple[Phase, ...] = get_args(Phase)
NOTED = ("phase", "node", "failures", "reason")
"""Fields of RunState that only the command of the sweep knows, and writes down."""
_SPEED = "dreamer_policy_steps_per_second"
_SPEED_HOLDS_S = 30.0  # it is over as long, and a run that goes on tells it every few seconds
_TAIL_BYTES = 1_000_000  # holds as many episodes as are scored of nearly every run


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
    """Of its newest training episodes."""
    episodes: int = 0
    """How many those are."""
    evaluation_return: float | None = None
    """Mean of its last evaluations, once it is done."""
    policy_steps_per_second: float | None = None
    """None while it does not run, or has said nothing yet or for long."""
    frames_per_policy_step: float = 1.0
    """Env frames; 1 before the first report."""

    @property
    def env_frame(self) -> int:
        """Env frames of the run."""
        return round(self.policy_step * self.frames_per_policy_step)

    @property
    def env_frames_per_second(self) -> float | None:
        """None while it does not run, or has said nothing yet or for long."""
        speed = self.policy_steps_per_second
        return None if speed is None else speed * self.frames_per_policy_step


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """Where a sweep stands."""

    runs: tuple[RunState, ...]

    def __str__(self) -> str:
        return ", ".join(f"{self.count(phase)} {phase}" for phase in PHASES)

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
    def games(self) -> int:
        """How many games, or environments."""
        return len({run.key.game for run in self.runs})

    @property
    def games_done(self) -> int:
        """Games of which every run is done."""
        return self.games - len({run.key.game for run in self.runs if run.phase != "done"})

    @property
    def env_frames(self) -> int:
        """Env frames of all runs so far."""
        return sum(run.env_frame for run in self.runs)

    @property
    def policy_steps_per_second(self) -> float | None:
        """Of all running runs together; None while none of them has said."""
        return _sum([run.policy_steps_per_second for run in self.where("running")])

    @property
    def env_frames_per_second(self) -> float | None:
        """The same in env frames."""
        return _sum([run.env_frames_per_second for run in self.where("running")])

    @property
    def time_left_s(self) -> float | None:
        """Seconds until all runs are done at the present speed; None while that is not known."""
        speed = self.policy_steps_per_second
        if not speed:
            return None
        to_do = [run for run in self.runs if run.phase in ("waiting", "running")]
        return sum(max(0, run.total_policy_steps - run.policy_step) for run in to_do) / speed


def _sum(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def done(state: RunState, score: Score) -> RunState:
    """Returns the state of a run that was trained to its end."""
    return replace(
        state,
        phase="done",
        policy_step=score.policy_steps,
        mean_return=score.training_return,
        episodes=score.training_episodes,
        evaluation_return=score.evaluation_return,
        policy_steps_per_second=None,
        frames_per_policy_step=score.env_frames / score.policy_steps if score.policy_steps else 1.0,
    )


class ProgressReader:
    """Follows the metrics of one run from near the end of their file on, which is cheap.

    Args:
        run_dir: of the run.
        clock_s: Unix time.
    """

    def __init__(self, run_dir: Path, clock_s: Callable[[], float] = time.time) -> None:
        self._clock_s = clock_s
        self._damaged: list[str] = []
        self._has_told_damage = False
        self._log = LogReader(
            run_dir / METRICS_FILE,
            tail_bytes=_TAIL_BYTES,
            damaged=self._damaged.append,
            begun_anew=self._forget,
        )
        self._forget()

    def _forget(self) -> None:
        self._history = RunHistory(keep_training=SCORED_TRAINING_EPISODES)

    def begin(self) -> None:
        """The speed of before does not count any more: the run is started again."""
        self._history.forget(_SPEED)

    def read(self, state: RunState) -> RunState:
        """Returns the state with what the run has written since."""
        with suppress(OSError):  # a file system that is away for a while; the run goes on
            for line in self._log.read_on():
                self._history.take(line)
        if self._damaged and not self._has_told_damage:
            self._has_told_damage = True
            what = self._damaged[0]
            logger.warning("The progress of %s leaves out damaged lines: %s", state.key, what)
        self._damaged.clear()
        newest, trained = self._history.newest, self._history.training.last()
        if newest is None:
            return state
        return replace(
            state,
            policy_step=newest.policy_step,
            mean_return=None if trained is None else trained.mean,
            episodes=0 if trained is None else len(trained.episodes),
            policy_steps_per_second=self._speed(),
            frames_per_policy_step=newest.frames_per_policy_step,
        )

    def _speed(self) -> float | None:
        """Policy steps a second; None where it was told too long ago, as by a run that hangs."""
        line = self._history.newest_with.get(_SPEED)
        if line is None or self._clock_s() - line.wall_time_s > _SPEED_HOLDS_S:
            return None
        return line.values[_SPEED]
