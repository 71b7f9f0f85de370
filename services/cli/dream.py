"""`dreamer dream`: what a run's world model imagines, as an animation and in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from dreamer_core.errors import BadInput, naming
from dreamer_core.files import write_json
from dreamer_core.report.analysis import (
    CONTEXT,
    HORIZON,
    LONGEST_SEQUENCE,
    SEQUENCES,
    WorldModelAnalysis,
)
from dreamer_core.storage.named import require_named
from dreamer_core.words import plural
from services.cli.parsing import parse, require_video_suffix
from services.terminal.format import format_number

_SHOWN_AHEAD = (1, 5, 15, 45)
_HELP = (
    "Errors are mean squares. A good model errs much less than both baselines a few steps ahead, "
    "and no more than they far ahead; its KL rises slowly; episodes go on as often as it says. "
    "Where it knows the rewards of what it sees no better than the mean does, an actor has little "
    "to learn from."
)


@dataclass(frozen=True, kw_only=True)
class DreamCommand:
    """Plays episodes anew and measures what a run's world model imagines of them.

    Of each sequence the model sees the first images; from there on it gets the actions alone. Its
    errors stand beside those of two baselines: the last image seen, kept, and the mean reward.
    """

    run_dir: tyro.conf.Positional[Path]
    """Directory of the run, or `demo`: the agent that comes with this program."""
    out: Path | None = None
    """Writes the liveliest sequence as an animation of truth, model and error to this .gif, .mp4
    or .webm; by default none."""
    checkpoint: int | None = None
    """Gradient steps of the checkpoint; by default the newest that is whole."""
    sequences: int = SEQUENCES
    """Sequences behind the numbers; context + horizon policy steps are played for each."""
    context: int = CONTEXT
    """Rows that the model sees of each."""
    horizon: int = HORIZON
    """Steps that it imagines after them."""
    seed: int = 0
    """Of the episodes and of what is imagined."""
    json: Path | None = None
    """Writes all numbers here."""

    def __post_init__(self) -> None:
        for name, least in (("sequences", 1), ("context", 1), ("horizon", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"--{name} {getattr(self, name)}: wanted {least} or more")
        if self.context + self.horizon > LONGEST_SEQUENCE:
            raise BadInput(
                f"--context {self.context} and --horizon {self.horizon}: wanted "
                f"{LONGEST_SEQUENCE:,} or less together"
            )
        require_video_suffix("--out", self.out)
        for name, path in (("out", self.out), ("json", self.json)):
            if path is not None and not path.parent.is_dir():
                raise BadInput(f"--{name} {path}: there is no directory {path.parent}; make it")


def run(arguments: list[str]) -> int:
    """Plays, measures and writes, and returns the exit code."""
    command = parse(DreamCommand, arguments, "dreamer dream")
    require_named(command.run_dir)  # what is not there is told before PyTorch is loaded
    from dreamer_core.report.dream_frames import FRAMES_PER_SECOND, dream_frames  # noqa: PLC0415
    from dreamer_core.report.video import save_video  # noqa: PLC0415
    from dreamer_core.run.analysis import analyse_run  # noqa: PLC0415 (these take seconds)

    console = Console(markup=False)
    paths = {name: getattr(command, name) for name in ("out", "json")}
    out, numbers = (None if path is None else path.absolute() for path in paths.values())
    analysis = analyse_run(
        command.run_dir,
        checkpoint=command.checkpoint,
        sequences=command.sequences,
        context=command.context,
        horizon=command.horizon,
        seed=command.seed,
        say=console.print,
    )
    if numbers is not None:
        with naming(f"write the numbers to {numbers}", "Name another file with --json"):
            write_json(numbers, as_json(analysis))
    if out is not None:
        frames = dream_frames(analysis.truth, analysis.model, context=analysis.context)
        with naming(f"write the animation {out}", "Name another file with --out"):
            video = save_video(out, frames, FRAMES_PER_SECOND, scale=1)
        console.print(f"animation {video.path} ({video.codec})", soft_wrap=True, highlight=False)
    for part in _told(analysis):
        console.print(part, highlight=False)
    return 0


def as_json(analysis: WorldModelAnalysis) -> dict[str, Any]:
    """Returns the numbers of an analysis under the names of its fields, without the images."""

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    names = [name for name in analysis.__slots__ if name not in ("truth", "model", "discount")]
    found = {name: plain(getattr(analysis, name)) for name in names}
    bins = analysis.discount
    return found | {"discount": {name: plain(getattr(bins, name)) for name in bins.__slots__}}


def _told(analysis: WorldModelAnalysis) -> list[Table | str]:
    """Returns what to print."""
    of = f"{analysis.gradient_step:,} gradient steps, {analysis.policy_step:,} policy steps"
    seen = f"{plural(analysis.sequences, 'sequence')}, rows seen of each: {analysis.context}"
    return [f"world model of {of}; {seen}", _table(analysis), *_lines(analysis), "", _HELP]


def _table(analysis: WorldModelAnalysis) -> Table:
    has_images = analysis.image_error.size > 0
    table = Table(box=None, header_style="bold")
    columns = ["steps ahead", "image error", "last image", "reward error", "mean reward"]
    for name in [*columns, "KL, nats", "sequences"]:
        if has_images or name not in ("image error", "last image"):
            table.add_column(name, justify="right")
    horizon = len(analysis.reached)
    for ahead in sorted({n for n in _SHOWN_AHEAD if n < horizon} | {horizon}):
        images = [analysis.image_error, analysis.copied_image_error] if has_images else []
        curves = [*images, analysis.reward_error, analysis.mean_reward_error, analysis.kl]
        values = [_number(curve[ahead - 1]) for curve in curves]
        table.add_row(str(ahead), *values, f"{analysis.reached[ahead - 1]:.0f}")
    return table


def _lines(analysis: WorldModelAnalysis) -> list[str]:
    bins = analysis.discount
    rows = bins.count.sum()
    said, came = ((x * bins.count).sum() / rows for x in (bins.predicted, bins.observed))
    off = (np.abs(bins.predicted - bins.observed) * bins.count).sum() / rows
    constant = analysis.overall_mean_reward_error
    lines = [
        f"rewards of images that it sees: error {_number(analysis.seen_reward_error)}, "
        + (f"of the mean reward {_number(constant)}" if constant else "and all are alike"),
        f"episode goes on: {said:.2%} predicted, {came:.2%} observed of {rows:,.0f} imagined rows; "
        f"{off:.2%} off on average over bins of what is predicted",
    ]
    if analysis.latent_usage.size:
        variables, classes = analysis.latent_usage.shape
        used = int((analysis.latent_usage > 0).sum())
        lines.append(
            f"latents: {used:,} of {variables} x {classes} classes used; mean entropy of a "
            f"variable {analysis.latent_entropy.mean():.2f} of at most {math.log(classes):.2f} nats"
        )
    return lines


def _number(value: float) -> str:
    """Small errors without an exponent, for the eye to compare."""
    return f"{value:.5f}" if value < 1 else format_number(value)
