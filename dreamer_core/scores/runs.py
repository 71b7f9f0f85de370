"""Scores of run directories and sweeps, read from what lies there; nothing is written.

A run is scored by the greedy evaluation episodes of its newest weights (`report/evaluated.py`), or
by its training episodes, whose actions are sampled while the agent explores: another number, so it
goes by another name.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamer_core.errors import BadInput, naming
from dreamer_core.report.evaluated import LastEpisodes, LastEvaluations, LastTraining, interval_of
from dreamer_core.report.history import RunHistory, read_history
from dreamer_core.report.metrics import LATEST
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.scores.at_frame import NoScore, require_reached, require_there
from dreamer_core.scores.csv_scores import read_csv
from dreamer_core.scores.run_config import read_run_config
from dreamer_core.scores.scored import LARGEST_SCORE, CollectedRuns, LeftOut, ScoredRun
from dreamer_core.scores.stamp import EVALUATION_EPISODES, Stamp, protocol_of, written_by
from dreamer_core.scores.table import NOT_IN_TABLE, game_named
from dreamer_core.storage.provenance import VERSIONS_FILE, read_versions
from dreamer_core.words import plural

Returns = Literal["evaluation", "training"]
CONFIG_FILE, SWEEP_FILE = "config.json", "sweep.json"
_NEAR = 1.1  # times the interval that is set, a measured one is taken for the same
_FAR = 2  # times as far apart, evaluations are worth a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which episodes of a run are its score."""

    returns: Returns = "evaluation"
    """Of evaluations, or of training itself."""
    mode: str = "greedy"
    """How the actor chose in evaluations."""
    at_frames: int | None = None
    """Env frame at which runs are compared; None: each at its newest episode."""
    column: str = "score"
    """Of CSV files."""


def collect(
    paths: Iterable[Path], wanted: Wanted, read: Mapping[Path, RunHistory] | None = None
) -> CollectedRuns:
    """Returns the scores of all runs at the paths, each directory once.

    Args:
        paths: run directories, sweep directories or CSV files.
        wanted: which episodes count.
        read: what run directories' logs tell that were read already, damage told.

    Raises:
        BadInput: a path is none of these, or a CSV file is damaged.
    """
    collected = CollectedRuns()
    seen: set[Path] = set()
    for path in paths:
        with naming(f"read {path}", "Name a run directory, a sweep directory or a CSV file"):
            if path.is_file():
                collected.add(read_csv(path, column=wanted.column, at_frames=wanted.at_frames))
                continue
            run_dirs = {each.resolve(): each for each in _run_dirs(path, collected)}
        for resolved, run_dir in run_dirs.items():
            if resolved not in seen:
                seen.add(resolved)
                _take(run_dir, wanted, collected, (read or {}).get(run_dir))
    _warn_of_repeated_seeds(collected)
    return collected


def _run_dirs(path: Path, collected: CollectedRuns) -> list[Path]:
    """Returns the runs of a directory; those of a sweep that are not begun are left out."""
    if (path / CONFIG_FILE).is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(
            f"There is no {path}; name a run directory, a sweep directory or a CSV file of scores"
        )
    run_dirs = sorted(each.parent for each in path.glob(f"*/{CONFIG_FILE}"))
    if (path / SWEEP_FILE).is_file():
        not_begun = _planned(path / SWEEP_FILE) - len(run_dirs)
        if not_begun > 0:
            reason = f"{not_begun} of its runs are not begun; `dreamer sweep` begins them"
            collected.left_out.append(LeftOut(str(path), reason))
        return run_dirs
    count = f"{len(run_dirs)} directories in it are runs"
    count = "1 directory in it is a run" if len(run_dirs) == 1 else count
    hint = f"; {count}: name {path}/*" if run_dirs else ""
    raise BadInput(
        f"{path} holds neither a run ({CONFIG_FILE}) nor a sweep ({SWEEP_FILE}){hint}. Name run "
        "directories, sweep directories or CSV files of scores"
    )


def _planned(marker: Path) -> int:
    """How many runs a sweep is made of."""
    try:
        sweep = json.loads(marker.read_bytes())
        return len(sweep["games"]) * len(sweep["seeds"])
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{marker} cannot be read as a sweep: {error!r}. Restore it, or name the run "
            f"directories in {marker.parent} themselves"
        ) from error


def _take(run_dir: Path, wanted: Wanted, collected: CollectedRuns, read: RunHistory | None) -> None:
    damaged: list[str] = []
    try:
        collected.runs.append(_scored(run_dir, wanted, damaged, collected.warnings, read))
    except (NoScore, BadInput) as error:
        collected.left_out.append(LeftOut(str(run_dir), str(error)))
    if damaged:
        lines = plural(len(damaged), "damaged line")
        what = f"{run_dir}: its score leaves out {lines}: {damaged[0]}"
        collected.warnings.append(what)


def _scored(
    run_dir: Path,
    wanted: Wanted,
    damaged: list[str],
    warnings: list[str],
    read: RunHistory | None,
) -> ScoredRun:
    config = read_run_config(run_dir / CONFIG_FILE)
    env = config.get("env", {})
    suite, task = env.get("suite", "atari"), str(env.get("task", ""))
    if suite != "atari":
        raise NoScore(f"its task {task} is of suite {suite}, and none of the paper's Atari games")
    game = game_named(task)
    if game in NOT_IN_TABLE:
        raise NoScore(f"{game} is none of the paper's games")
    history = _history(run_dir, damaged) if read is None else read
    if wanted.returns == "evaluation":
        interval = config.get("evaluation", {}).get("interval_frames")
        last, facts = _last_evaluations(history.evaluations, wanted, interval)
        warnings.extend(f"{run_dir}: {each}" for each in _spread(last, interval))
    else:
        last, facts = _last_training(history.training, wanted)
    if abs(last.mean) > LARGEST_SCORE:
        raise NoScore(f"its score of {last.mean:g} is none of a game; mend {METRICS_FILE}")
    return ScoredRun(
        game=game,
        seed=config.get("seed", 0),
        score=last.mean,
        source=str(run_dir),
        episodes=len(last.episodes),
        from_frame=last.frames[0],
        to_frame=last.frames[1],
        stamp={
            **facts,
            "scored_episodes": len(last.episodes),
            **protocol_of(config),
            **written_by(read_versions(run_dir / VERSIONS_FILE)),
        },
    )


def _history(run_dir: Path, damaged: list[str]) -> RunHistory:
    with naming(f"read the metrics of {run_dir}", "Mend their permissions"):
        return read_history(run_dir, damaged=damaged.append)


def _last_evaluations(
    evaluations: LastEvaluations, wanted: Wanted, set_interval: int | None
) -> tuple[LastEpisodes, Stamp]:
    """Returns the scored evaluations and what they are, or raises why there are none."""
    mode = wanted.mode
    if mode not in evaluations.modes:
        others = ", ".join(f"{count} of mode {m}" for m, count in evaluations.modes.items())
        to_do = (
            f"but it has {others}: score those with --mode"
            if others
            else "train with --evaluation.interval-frames 100000, or score what training "
            "returned with --returns training"
        )
        raise NoScore(f"it has no {mode} evaluation episodes; {to_do}")
    interval = _interval(evaluations.frames(mode), set_interval)
    at_frame = math.inf if wanted.at_frames is None else wanted.at_frames
    last = evaluations.last(mode, at_frame=at_frame)
    require_there(
        last.frames[1] if last else None,
        wanted.at_frames,
        reached_frame=evaluations.reached_frame,
        interval_frames=interval,
    )
    assert last is not None
    return last, {
        "returns": EVALUATION_EPISODES,
        "mode": mode,
        "weights": LATEST,
        "evaluation_interval_frames": round(interval),
    }


def _interval(frames: Sequence[float], set_interval: int | None) -> float:
    """Returns the env frames from one evaluation to the next, as measured where there are two.

    A resume may have changed what the config says. Where that is near what is measured, it is
    taken, so that runs of one setting have one stamp.
    """
    measured = interval_of(frames)
    if set_interval is None:
        return measured
    is_near = set_interval / _NEAR <= measured <= set_interval * _NEAR
    return set_interval if is_near or len(frames) < 2 else measured


def _spread(last: LastEpisodes, set_interval: int | None) -> Iterator[str]:
    """Yields what is to be said of scored evaluations that are not apart as the config says.

    One that comes early is nothing: at its end, a run is evaluated once more.
    """
    frames = sorted({each.env_frame for each in last.episodes})
    gaps = [b - a for a, b in itertools.pairwise(frames)]
    if set_interval is None or not gaps:
        return
    if max(gaps) > _FAR * set_interval or interval_of(frames) < set_interval / _FAR:
        few, many = f"{round(min(gaps)):,}", f"{round(max(gaps)):,}"
        yield (
            f"its scored evaluations are {few if few == many else f'{few} to {many}'} frames "
            f"apart and not {set_interval:,}, as its {CONFIG_FILE} says; they span "
            f"{round(frames[-1] - frames[0]):,} frames of the run"
        )


def _last_training(training: LastTraining, wanted: Wanted) -> tuple[LastEpisodes, Stamp]:
    at_frame = math.inf if wanted.at_frames is None else wanted.at_frames
    last = training.last(at_frame=at_frame)
    if wanted.at_frames is not None:
        require_reached(training.reached_frame, wanted.at_frames)
    if last is None:
        raise NoScore("it has no finished training episode; let it train on")
    return last, {"returns": "training episodes", "mode": "sample", "weights": "as collected"}


def _warn_of_repeated_seeds(collected: CollectedRuns) -> None:
    """One seed of a game in two places is most likely one run, and not two."""
    places: dict[tuple[str, int], list[str]] = {}
    for run in collected.runs:
        if run.seed is not None:
            places.setdefault((run.game, run.seed), []).append(run.source)
    for (game, seed), sources in places.items():
        if len(sources) > 1:
            what = f"{game} with seed {seed} is there {len(sources)} times and counts as often"
            collected.warnings.append(f"{what}: {', '.join(sources)}")
