"""The directory of a sweep: what it is, what of it is done, who runs it.

sweep.json    preset, settings, games and seeds, and an id by which every node knows the directory
sweep.lock    held by the command that runs the sweep
scores.json   the runs that were trained to their end, their scores, and what those are scores of
state.json    which runs the command has running, and what failed
sweep.log     starts, failures and ends of runs
logs/         what each run printed
GAME_SEED/    run directories
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput, naming
from dreamer_core.fields import from_dict, known_part, to_dict
from dreamer_core.files import lock_holder, temporary_of, write_json
from dreamer_core.report.evaluated import SCORED_EPISODES, SCORED_TRAINING_EPISODES
from dreamer_core.report.history import read_history
from dreamer_core.report.read import METRICS_FILE
from dreamer_core.scores.run_config import read_run_config
from dreamer_core.scores.stamp import Stamp, how_it_evaluates, protocol_of, written_by
from dreamer_core.storage.identity import MAY_CHANGE, differing_settings
from dreamer_core.storage.provenance import read_versions
from dreamer_core.storage.run_directory import RunDirectoryError, RunPaths, claim
from services.sweep import SWEEP_FILE
from services.sweep.plan import RunKey, SweepPlan

logger = logging.getLogger(__name__)

_OPTION = "--sweep-dir"
_FIRST_TAIL_BYTES = 4_000_000
_OF_A_RUN = ("env.task", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a finished run reached."""

    game: str
    seed: int
    steps: int
    """Policy steps that were asked for."""
    policy_steps: int
    env_frames: int
    evaluation_return: float | None
    """Mean of its last evaluations, by the protocol of its config; None if it has none."""
    evaluation_episodes: int
    """How many those are, SCORED_EPISODES at most."""
    training_return: float | None
    """Mean of its last training episodes, whose actions are sampled; None if none ended."""
    training_episodes: int
    """How many those are, SCORED_TRAINING_EPISODES at most."""

    @property
    def key(self) -> RunKey:
        """The run."""
        return RunKey(self.game, self.seed)


@dataclass(frozen=True, slots=True)
class SweepDirectory:
    """Where the files of a sweep lie, and what they say."""

    root: Path

    @property
    def marker(self) -> Path:
        """Says what the sweep is, and by its id that a node sees this very directory."""
        return self.root / SWEEP_FILE

    @property
    def lock(self) -> Path:
        """Held by the command that runs the sweep."""
        return self.root / "sweep.lock"

    @property
    def scores(self) -> Path:
        """The finished runs and their scores."""
        return self.root / "scores.json"

    @property
    def state(self) -> Path:
        """Where the runs stood when the command last said it."""
        return self.root / "state.json"

    @property
    def log(self) -> Path:
        """What happened to the runs."""
        return self.root / "sweep.log"

    def run_dir(self, key: RunKey) -> Path:
        """Directory of a run."""
        return self.root / key.name

    def run_log(self, key: RunKey) -> Path:
        """What a run printed; not in its directory, which is the run's own affair."""
        return self.root / "logs" / f"{key.name}.log"

    def sweep_id(self) -> str:
        """By which every node knows the directory.

        Raises:
            OSError: there is none.
            KeyError: what lies here is not a sweep.
        """
        return json.loads(self.marker.read_text())["id"]

    def plan(self) -> SweepPlan:
        """What the sweep trains, as far as this program knows its settings.

        Raises:
            RunDirectoryError: there is no sweep, or it cannot be read.
        """
        try:
            told = json.loads(self.marker.read_text())
            values, _ = known_part(Config, told["config"])
            games, seeds = tuple(told["games"]), tuple(told["seeds"])
            return SweepPlan(config=from_dict(Config, values), games=games, seeds=seeds)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise RunDirectoryError(
                f"{self.marker} cannot be read as a sweep: {error}. Restore it, or name the "
                f"directory that `dreamer sweep` was given with {_OPTION}"
            ) from error

    def holder(self) -> str | None:
        """Who runs the sweep, as `process N on HOST`; None if nobody does.

        Raises:
            RunDirectoryError: the lock cannot be read.
        """
        with naming(f"see who runs {self.root}", "Mend its permissions", RunDirectoryError):
            return lock_holder(self.lock)

    def note(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes where each run stands, by its name; that it cannot is a warning."""
        try:
            write_json(self.state, {"runs": told})
        except OSError as error:
            logger.warning("Other commands are not told where the runs stand: %s", error)

    def noted(self) -> Mapping[str, Mapping[str, Any]]:
        """What `note` wrote last; nothing of a sweep of before, or where it cannot be read."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            return dict(json.loads(self.state.read_text())["runs"])
        return {}

    def finished(self) -> dict[RunKey, Score]:
        """The score of each run that was trained to its end and is still there.

        Raises:
            RunDirectoryError: the scores cannot be read.
        """
        try:
            saved = json.loads(self.scores.read_text())["runs"] if self.scores.exists() else []
            # Scores of before there were evaluations are read anew.
            scores = [from_dict(Score, v) for v in saved if "evaluation_return" in v]
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise RunDirectoryError(
                f"{self.scores} cannot be read as scores: {error}. Restore it, or delete it to "
                "have each run looked at again; none is trained anew"
            ) from error
        return {s.key: s for s in scores if RunPaths(self.run_dir(s.key)).config.exists()}

    def record(self, score: Score) -> None:
        """Writes down for good that a run was trained to its end.

        Raises:
            OSError: it cannot be written.
            RunDirectoryError: the scores that are there cannot be read.
        """
        scores = sorted({**self.finished(), score.key: score}.values(), key=lambda s: s.key)
        runs = [asdict(each) for each in scores]
        stamps = {each.key.name: self._stamp(each.key) for each in scores}
        write_json(self.scores, {"games": by_game(scores), "runs": runs, "stamps": stamps})

    def _stamp(self, key: RunKey) -> Stamp:
        """What the scores of a run are scores of; nothing, with a warning, if it cannot be read."""
        paths = RunPaths(self.run_dir(key))
        try:
            config = read_run_config(paths.config)
        except BadInput as error:
            logger.warning("%s: its protocol is not written down: %s", key, error)
            return {}
        return {
            **how_it_evaluates(config),
            **protocol_of(config),
            **written_by(read_versions(paths.versions)),
        }


def by_game(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Returns for each game its largest `steps`, and means with how many seeds are behind each.

    Seeds that were trained for fewer steps, before `--steps` was raised, are left out.
    """
    games: dict[str, dict[str, Any]] = {}
    for game in dict.fromkeys(score.game for score in scores):
        steps = max(score.steps for score in scores if score.game == game)
        longest = [score for score in scores if (score.game, score.steps) == (game, steps)]
        games[game] = {
            "steps": steps,
            "evaluation": _mean([score.evaluation_return for score in longest]),
            "training": _mean([score.training_return for score in longest]),
        }
    return games


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return {"seeds": len(known), "mean_return": sum(known) / len(known) if known else None}


def read_score(run_dir: Path, key: RunKey, steps: int, mode: str | None) -> Score:
    """Returns what a finished run reached, by the end of its metrics.

    Args:
        run_dir: of the run.
        key: of the run.
        steps: policy steps that were asked for.
        mode: of its evaluations; None if it has none.

    Raises:
        OSError: its metrics cannot be read.
    """
    path, tail_bytes = run_dir / METRICS_FILE, _FIRST_TAIL_BYTES
    while True:
        damaged: list[str] = []
        history = read_history(run_dir, tail_bytes=tail_bytes, damaged=damaged.append)
        evaluated = None if mode is None else history.evaluations.last(mode)
        trained = history.training.last()
        is_whole = not path.exists() or path.stat().st_size <= tail_bytes
        num_evaluated = 0 if evaluated is None else len(evaluated.episodes)
        num_trained = 0 if trained is None else len(trained.episodes)
        is_enough = mode is None or num_evaluated == SCORED_EPISODES
        if is_whole or (is_enough and num_trained == SCORED_TRAINING_EPISODES):
            break
        tail_bytes *= 4
    if damaged:
        logger.warning("%s: its score leaves out %d lines: %s", key, len(damaged), damaged[0])
    newest = history.newest
    return Score(
        game=key.game,
        seed=key.seed,
        steps=steps,
        policy_steps=newest.policy_step if newest else steps,
        env_frames=newest.env_frame if newest else 0,
        evaluation_return=None if evaluated is None else evaluated.mean,
        evaluation_episodes=num_evaluated,
        training_return=None if trained is None else trained.mean,
        training_episodes=num_trained,
    )


@contextmanager
def open_sweep(root: Path, plan: SweepPlan) -> Generator[SweepDirectory]:
    """Claims the directory for the sweep while the block runs; makes it if needed.

    More games, seeds or steps may be asked for than last time.

    Raises:
        RunDirectoryError: the directory cannot be written, is in use, holds files of something
            else, or holds a sweep with other settings.
        Failed: its disk is full.
    """
    directory = SweepDirectory(root)
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        if not directory.marker.exists():
            _require_empty(directory)
        lock = claim(directory.lock, _OPTION)
    with lock:
        with _writing(root):
            sweep_id = secrets.token_hex(8)
            if directory.marker.exists():
                sweep_id = _require_same(directory, plan)
            (root / "logs").mkdir(exist_ok=True)
            write_json(directory.marker, _described(plan, sweep_id))
        yield directory


def _writing(root: Path) -> AbstractContextManager[None]:
    to_do = f"Choose another place with {_OPTION}, make room, or mend its permissions"
    return naming(f"write a sweep into {root}", to_do, RunDirectoryError)


def _described(plan: SweepPlan, sweep_id: str) -> Mapping[str, Any]:
    return {
        "id": sweep_id,
        "games": plan.games,
        "seeds": plan.seeds,
        "config": to_dict(plan.config),
    }


def _require_empty(directory: SweepDirectory) -> None:
    kept = ("logs", directory.lock.name, temporary_of(directory.marker).name)
    foreign = sorted(path.name for path in directory.root.iterdir() if path.name not in kept)
    if foreign:
        raise RunDirectoryError(
            f"Wanted an empty directory or one that holds a sweep, but {directory.root} holds "
            f"{', '.join(foreign[:5])} and no {directory.marker.name}. Name another with {_OPTION}"
        )


def _require_same(directory: SweepDirectory, plan: SweepPlan) -> str:
    """Returns the id of the sweep that is there, if it is the one asked for."""
    try:
        saved = from_dict(Config, json.loads(directory.marker.read_text())["config"])
        sweep_id = directory.sweep_id()
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RunDirectoryError(
            f"{directory.marker} cannot be read as a sweep: {error}. It was damaged, or written by "
            f"another version; restore it or name another directory with {_OPTION}"
        ) from error
    differing = differing_settings(saved, plan.config, (*MAY_CHANGE, *_OF_A_RUN))
    if differing:
        raise RunDirectoryError(
            f"{directory.root} holds another sweep ({differing}). To resume it, ask for the same "
            f"preset and settings; for a new one, name another directory with {_OPTION}. Nothing "
            "was changed"
        )
    return sweep_id
