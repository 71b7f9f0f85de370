"""`dreamer eval`: plays with a run's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from dreamer_core.config import EPISODE_LIMIT, Config
from dreamer_core.errors import BadInput
from dreamer_core.fields import to_dict
from dreamer_core.report.metrics import mean_info
from dreamer_core.report.report import EpisodeSummary
from dreamer_core.scores.stamp import protocol_of, shown
from dreamer_core.storage.named import run_named
from dreamer_core.storage.run_directory import read_config
from dreamer_core.words import plural
from services.cli.parsing import parse, require_video_suffix

if TYPE_CHECKING:
    from dreamer_core.report.video import Video

_HOW_THE_RUN_EVALUATES = ("episodes_an_evaluation", "evaluation_limit_frames")


@dataclass(frozen=True, kw_only=True)
class EvalCommand:
    """Plays episodes with a checkpoint of a run and prints their returns."""

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, or `demo`: the agent that comes with this program."""
    episodes: int = 5
    """Episodes to play."""
    mode: Literal["greedy", "sample"] = "greedy"
    """The actor's mode, or a sample of it; the latent state is sampled in both."""
    checkpoint: int | None = None
    """Gradient steps of the checkpoint to play with; by default the newest that is whole."""
    episode_limit: int = EPISODE_LIMIT
    """Policy steps after which an episode is cut off."""
    video: Path | None = None
    """Writes the first episode to this .mp4, .webm or .gif, at the environment's own pace."""
    seed: int = 0
    """Of environment and samples."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise BadInput(f"--episodes {self.episodes}: wanted 1 or more")
        if self.episode_limit < 1:
            raise BadInput(f"--episode-limit {self.episode_limit}: wanted 1 or more")
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: wanted 0 or more")
        require_video_suffix("--video", self.video)


def parsed(arguments: list[str]) -> EvalCommand:
    """Returns what is asked for; looks at no directory, which may be another machine's."""
    return parse(EvalCommand, arguments, "dreamer eval")


def run(arguments: list[str]) -> int:
    """Plays, and returns the exit code."""
    command = parsed(arguments)
    config = read_config(run_named(command.run_dir))  # a wrong one is told before PyTorch is loaded
    from dreamer_core.run.evaluation import evaluate_run  # noqa: PLC0415 (takes seconds)

    console = Console(markup=False)
    played: list[EpisodeSummary] = []
    videos: list[Video] = []
    for evaluation in evaluate_run(
        command.run_dir,
        episodes=command.episodes,
        mode=command.mode,
        video=command.video,
        seed=command.seed,
        step=command.checkpoint,
        on_video=videos.append,
        episode_limit=command.episode_limit,
        say=console.print,
    ):
        played.append(evaluation)
        console.print(
            f"episode {len(played)}: return {evaluation.episode_return:g}, "
            f"{evaluation.length} policy steps{_told(evaluation.info)}{_end(evaluation, command)}"
        )
    mean = sum(episode.episode_return for episode in played) / len(played)
    console.print(
        f"mean return {mean:g} over {plural(len(played), 'episode')}, mode {command.mode}"
        f"{_told(mean_info(played))}"
    )
    console.print(_protocol(config, command), soft_wrap=True)
    for video in videos:
        console.print(f"video {video.path} ({video.codec})", soft_wrap=True)
    return 0


def _protocol(config: Config, command: EvalCommand) -> str:
    """Returns what else the score is a score of: the stamp of its run, but how that evaluates."""
    stamp = protocol_of(to_dict(config)).items()
    told = [(k, x) for k, x in stamp if x is not None and not k.startswith(_HOW_THE_RUN_EVALUATES)]
    played = [("episode_limit", command.episode_limit), *told]
    return "protocol: " + ", ".join(f"{name} {shown(value)}" for name, value in played)


def _end(episode: EpisodeSummary, command: EvalCommand) -> str:
    return " (at --episode-limit)" if episode.length == command.episode_limit else ""


def _told(info: Mapping[str, float]) -> str:
    """Returns what episodes told under the keys of env.log_info, as words to follow others."""
    return "".join(f", {key} {value:g}" for key, value in info.items())
