"""Where a sweep stands, read from its directory alone: for `dreamer status` and the wall."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreamer_core.storage.run_directory import RunPaths, holder
from services.sweep.directory import Score, SweepDirectory
from services.sweep.plan import RunKey
from services.sweep.progress import NOTED, PHASES, ProgressReader, RunState, SweepProgress, done


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStatus:
    """What a sweep is, where it stands, and each of its runs."""

    sweep: Path
    preset: str
    holder: str | None
    """Who runs it, as `process N on HOST`; None if nobody does."""
    progress: SweepProgress


class SweepReader:
    """Reads where a sweep stands, again and again, and of its metrics what is new each time.

    Args:
        root: directory of the sweep, running or not.
    """

    def __init__(self, root: Path) -> None:
        self.directory = SweepDirectory(root)
        self._readers: dict[RunKey, ProgressReader] = {}

    def read(self) -> SweepStatus:
        """Returns where it stands now.

        Raises:
            RunDirectoryError: there is no sweep, or its files cannot be read.
        """
        directory = self.directory
        plan, finished, who = directory.plan(), directory.finished(), directory.holder()
        noted = directory.noted()
        states: list[RunState] = []
        for key in plan.keys:
            told = {k: v for k, v in noted.get(key.name, {}).items() if k in NOTED}
            state = replace(RunState(key=key, total_policy_steps=plan.config.steps), **told)
            states.append(self._read_run(state, finished.get(key), is_held=who is not None))
        return SweepStatus(
            sweep=directory.root,
            preset=plan.config.preset,
            holder=who,
            progress=SweepProgress(tuple(states)),
        )

    def _read_run(self, state: RunState, score: Score | None, *, is_held: bool) -> RunState:
        if score is not None and score.steps >= state.total_policy_steps:
            return done(state, score)
        run_dir = self.directory.run_dir(state.key)
        phase = state.phase
        if not is_held:  # whoever wrote it down is gone, and its running runs with it
            is_trained = holder(RunPaths(run_dir)) is not None  # by itself
            phase = "running" if is_trained else "failed" if phase == "failed" else "waiting"
        elif phase == "done":  # more steps were asked for since
            phase = "waiting"
        reader = self._readers.setdefault(state.key, ProgressReader(run_dir))
        read = reader.read(replace(state, phase=phase))
        return read if phase == "running" else replace(read, policy_steps_per_second=None)


def as_json(status: SweepStatus) -> str:
    """Returns it as a JSON object; what is not known is null."""
    return json.dumps(described(status), indent=2)


def described(status: SweepStatus) -> dict[str, Any]:
    """Returns it as what JSON holds."""
    progress = status.progress
    return {
        "sweep": str(status.sweep),
        "preset": status.preset,
        "holder": status.holder,
        "states": {phase: progress.count(phase) for phase in PHASES},
        "games": progress.games,
        "games_done": progress.games_done,
        "done_ratio": progress.share,
        "env_frames": progress.env_frames,
        "env_frames_per_second": progress.env_frames_per_second,
        "policy_steps_per_second": progress.policy_steps_per_second,
        "time_left_s": progress.time_left_s,
        "runs": [_described_run(status.sweep, run) for run in progress.runs],
    }


def _described_run(sweep: Path, run: RunState) -> dict[str, Any]:
    return {
        "name": run.key.name,
        "run": str(SweepDirectory(sweep).run_dir(run.key)),
        "game": run.key.game,
        "seed": run.key.seed,
        "state": run.phase,
        "node": run.node,
        "failures": run.failures,
        "reason": run.reason,
        "steps": run.total_policy_steps,
        "policy_step": run.policy_step,
        "env_frame": run.env_frame,
        "mean_return": run.mean_return,
        "episodes": run.episodes,
        "evaluation_return": run.evaluation_return,
        "policy_steps_per_second": run.policy_steps_per_second,
        "env_frames_per_second": run.env_frames_per_second,
    }
