"""The newest episodes of a run, as it is scored by them: evaluations, or training itself.

The paper's curves and tables are means of greedy evaluation episodes, one each 100,000 frames, ten
to a bin of 1M frames (DreamerV2, sec. 3, and the authors' score files). So a run's score is the
mean of its last ten evaluations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dreamer_core.report.metrics import is_of_newest_weights, training_episodes
from dreamer_core.report.read import LogLine
from dreamer_core.report.report import EpisodeSummary

SCORED_EPISODES = 10
"""Evaluation episodes behind a score."""
SCORED_TRAINING_EPISODES = 100
"""Training episodes behind a training return."""

_Evaluation: TypeAlias = tuple[float, str]  # env frame, evaluator: "" where a log does not say


@dataclass(frozen=True, slots=True)
class ScoredEpisode:
    """One finite return, and where it belongs."""

    env_frame: float
    """Of an evaluation, the run's when the weights were made; of training, where it ended."""
    episode_return: float


@dataclass(frozen=True, slots=True)
class LastEpisodes:
    """The episodes of a score, oldest first; at least one."""

    episodes: tuple[ScoredEpisode, ...]

    @property
    def mean(self) -> float:
        """Of their returns."""
        return sum(each.episode_return for each in self.episodes) / len(self.episodes)

    @property
    def frames(self) -> tuple[float, float]:
        """Env frame of the oldest and of the newest."""
        return self.episodes[0].env_frame, self.episodes[-1].env_frame


def interval_of(frames: Sequence[float]) -> float:
    """Returns the env frames from one evaluation to the next, as most are; 0 if there is none.

    Args:
        frames: of the evaluations, ascending; the first follows the run's beginning, frame 0.
    """
    gaps = sorted(b - a for a, b in itertools.pairwise([0.0, *frames]))
    return gaps[len(gaps) // 2] if gaps else 0.0


class LastEvaluations:
    """Takes the lines of a run and says which evaluations of its newest weights are its last.

    There is one evaluation to a frame, a mode and an evaluator: a later line of the same takes its
    place, and several evaluators of one frame all count. Those of guests do not. A run that is
    resumed may go back to its checkpoint: what it had evaluated from the frame of its next
    evaluation on is then void, as in `CurveLines`.
    """

    def __init__(self) -> None:
        self._by_mode: dict[str, dict[_Evaluation, tuple[float, ...]]] = {}  # finite returns
        self._reached = 0
        self._has_gone_back = False

    def take(self, line: LogLine) -> None:
        """Takes in one line of any service; returns that are not finite are left out."""
        if not is_of_newest_weights(line) or line.labels.get("guest"):
            return
        if line.env_frame < self._reached:
            self._has_gone_back = True
            self._keep(lambda env_frame: env_frame <= line.env_frame)
        self._reached = line.env_frame
        if line.service != "evaluator" or not line.episodes:
            return
        if self._has_gone_back:
            self._keep(lambda env_frame: env_frame < line.evaluated_frame)
            self._has_gone_back = False
        returns = tuple(each.episode_return for each in line.episodes)
        mode = self._by_mode.setdefault(str(line.labels.get("mode", "greedy")), {})
        evaluation = (line.evaluated_frame, str(line.labels.get("evaluator", "")))
        mode[evaluation] = tuple(each for each in returns if math.isfinite(each))

    def _keep(self, is_kept: Callable[[float], bool]) -> None:
        for mode, evaluations in self._by_mode.items():
            self._by_mode[mode] = {key: x for key, x in evaluations.items() if is_kept(key[0])}

    @property
    def reached_frame(self) -> int:
        """Env frame of the newest line."""
        return self._reached

    @property
    def modes(self) -> dict[str, int]:
        """How many episodes there are of each mode."""
        counts = {mode: len(self._in_order(mode)) for mode in self._by_mode}
        return {mode: count for mode, count in counts.items() if count}

    def frames(self, mode: str = "greedy") -> list[float]:
        """The env frames at which there are evaluations of a mode, ascending, each once."""
        return sorted({frame for frame, _ in self._by_mode.get(mode, {})})

    def last(
        self,
        mode: str = "greedy",
        *,
        at_frame: float = math.inf,
        episodes: int = SCORED_EPISODES,
    ) -> LastEpisodes | None:
        """Returns the newest episodes of a mode at or before a frame; None if there are none.

        Args:
            mode: how the actor chose.
            at_frame: env frame; later evaluations are left out.
            episodes: how many at most.
        """
        return _last(self._in_order(mode), at_frame, episodes)

    def _in_order(self, mode: str) -> list[ScoredEpisode]:
        evaluations = sorted(self._by_mode.get(mode, {}).items())
        return [
            ScoredEpisode(frame, each) for (frame, _), returns in evaluations for each in returns
        ]


class LastTraining:
    """Takes the lines of a run and says which training episodes are its last.

    An episode is known by the policy step at which it ended, so that it counts once however often
    a resume repeats it; those beyond the step that a resume went back to are void.

    Args:
        keep: how many of the newest episodes are kept, so that following a run takes no more and
            more memory; after a resume that went back there are fewer until as many have ended.
            None keeps all, which the score at an earlier frame needs.

    Raises:
        ValueError: keep is less than 1.
    """

    def __init__(self, *, keep: int | None = None) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep={keep}: wanted 1 or more episodes, or None for all")
        self._keep_newest = keep
        self._by_step: dict[int, tuple[float, EpisodeSummary]] = {}  # env frame, episode
        self.reached_frame = 0
        """Env frame of the newest line."""

    def take(self, line: LogLine) -> None:
        """Takes in one line of any service; returns that are not finite are left out."""
        if is_of_newest_weights(line):
            if line.env_frame < self.reached_frame:
                kept = {k: x for k, x in self._by_step.items() if k <= line.policy_step}
                self._by_step = kept
            self.reached_frame = line.env_frame
        for each in training_episodes(line):
            if math.isfinite(each.episode_return):
                frame = each.policy_step * line.frames_per_policy_step
                self._by_step[each.policy_step] = (frame, each)
        self._forget_older()

    def _forget_older(self) -> None:
        if self._keep_newest is not None and len(self._by_step) > self._keep_newest:
            newest = sorted(self._by_step)[-self._keep_newest :]
            self._by_step = {step: self._by_step[step] for step in newest}

    @property
    def episodes(self) -> list[EpisodeSummary]:
        """Those that are kept, in the order in which they ended."""
        return [each for _, (_, each) in sorted(self._by_step.items())]

    def last(
        self, *, at_frame: float = math.inf, episodes: int = SCORED_TRAINING_EPISODES
    ) -> LastEpisodes | None:
        """Returns the newest episodes at or before a frame; arguments as `LastEvaluations.last`.

        Raises:
            ValueError: a frame is asked for, and not all episodes are kept.
        """
        if self._keep_newest is not None and at_frame < math.inf:
            raise ValueError(
                f"at_frame={at_frame} asks for episodes that keep={self._keep_newest} may have "
                "dropped; keep all with keep=None"
            )
        in_order = sorted(self._by_step.items())
        scored = (ScoredEpisode(frame, each.episode_return) for _, (frame, each) in in_order)
        return _last(scored, at_frame, episodes)


def _last(in_order: Iterable[ScoredEpisode], at_frame: float, episodes: int) -> LastEpisodes | None:
    until = [each for each in in_order if each.env_frame <= at_frame]
    return LastEpisodes(tuple(until[-episodes:])) if until else None
