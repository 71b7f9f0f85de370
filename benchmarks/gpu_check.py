"""Checks and measures the learner on a CUDA machine, then trains there. No Ray.

    python benchmarks/gpu_check.py all --out results                   again until it is done
    python benchmarks/gpu_check.py correctness timings --out results   parts of it
    python benchmarks/gpu_check.py train --game freeway --minutes 9 --out results

Needs Python 3.11 to 3.14 with torch >= 2.9, numpy, msgpack, gymnasium, ale-py, tensorboard,
matplotlib, pillow, zstandard, fsspec and opencv (headless will do); pytest for `tests`, dm_control
and mujoco < 4 for Walker, and triton and a C compiler for the compiled form. With `--device cpu
--preset debug --seconds 0.3` all of it is rehearsed on a CPU within minutes: what is captured there
is eager here, and trainings are short.

`all` is, in this order: the CUDA tests; every form of a gradient step against eager float32; nodes
of its graphs; single convolutions and an empty node; kernels that are no part of the project yet
(`--prototypes`); times of steps; times of policies; then Boxing and Freeway to 2,000,000 frames
with `atari` and walker_walk to 200,000 with `control`.

Each thing is found out by a process of its own, alone but for the checks of correctness, and none
of them outlives `--minutes`. What was found stands in small JSON files, one for each part, with
hardware, versions, commit and settings, and is not done again while code and settings are the same.
What failed is found out again once its file is removed.
The exit code is 0 once all is done and good, 1 if something failed, 75 while the same command has
to be given again. Trainings leave their curve there and a run directory, resumable, at --run-dir.
`--small-checkpoint` writes the weights in bfloat16, without the optimisers' moments, to files of at
most 15 MB in a folder named after the game; `--weights-from` begins a run with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu.clock import BEGAN

# isort: split
import dreamer_core  # noqa: F401  (before torch: it keeps torch's idle threads from spinning)

# isort: split
from benchmarks.gpu.acting import acting
from benchmarks.gpu.correctness import correctness
from benchmarks.gpu.driver import AGAIN, Item, drive
from benchmarks.gpu.layers import layers
from benchmarks.gpu.nodes import nodes
from benchmarks.gpu.results import Results, code
from benchmarks.gpu.scripts import cuda_tests, scripts
from benchmarks.gpu.timings import timings
from benchmarks.gpu.training import train
from benchmarks.gpu.variants import Work, attempt, with_learner
from dreamer_core.bench.measure import machine
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.files import write_json
from dreamer_core.presets import preset

MEASUREMENTS = {
    "correctness": correctness,
    "nodes": nodes,
    "layers": layers,
    "timings": timings,
    "acting": acting,
}
ALL = ("tests", "correctness", "nodes", "layers", "prototypes", "timings", "acting")
TRAININGS = (  # preset, preset of a rehearsal, game, frames
    ("atari", "debug", "boxing", 2_000_000),
    ("atari", "debug", "freeway", 2_000_000),
    ("control", "control_tiny", "walker_walk", 200_000),
)
SIDE_BY_SIDE = ("correctness",)
REHEARSED_FRAMES = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Finds out what is wanted and lacking, as far as the time goes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only is not None:
        result = attempt(table(options.parts[0], options)[options.only])
        write_json(options.to, {"machine": machine(), "result": result})
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    groups = [items(*piece) for piece in pieces(given, options)]
    is_done = drive(groups, until=BEGAN + 60 * options.minutes)
    if not is_done:
        sys.stdout.write("Not done yet: give the same command again\n")
        return AGAIN
    return 0 if all(item.results.has_passed() for group in groups for item in group) else 1


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("parts", nargs="+", choices=["all", *ALL, "train"])
    made.add_argument("--only", help="finds out this one thing in this process")
    made.add_argument("--to", type=Path, help="of --only: where the result goes")
    made.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    made.add_argument("--preset", default="atari_release")
    made.add_argument("--game", default="freeway")
    made.add_argument("--minutes", type=float, default=9.0, help="of this command")
    made.add_argument("--frames", type=int, help="of a training; until its minutes are over")
    made.add_argument("--seconds", type=float, default=3.0, help="of each timing")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu_check"))
    made.add_argument("--run-dir", type=Path, help="default: runs/gpu_check_GAME")
    made.add_argument("--small-checkpoint", action="store_true")
    made.add_argument("--weights-from", type=Path, help="a folder with weights_*.pt")
    made.add_argument("--prototypes", type=Path, help="a folder with scripts check_*.py")
    return made


def pieces(
    given: Sequence[str], options: argparse.Namespace
) -> list[tuple[str, list[str], argparse.Namespace]]:
    """The parts that are wanted, with the arguments of each and what those say."""
    names = {"all", *ALL, "train"}
    shared = [x for x in given if x not in names]
    wanted: list[tuple[str, list[str]]] = []
    for part in options.parts:
        wanted += [(name, shared) for name in (ALL if part == "all" else [part])]
        if part != "all":
            continue
        is_rehearsal = options.device == "cpu"
        for real, rehearsed, game, frames in TRAININGS:
            name = rehearsed if is_rehearsal else real
            goal = REHEARSED_FRAMES if is_rehearsal else frames
            own = ["--preset", name, "--game", game, "--frames", str(goal)]
            if options.run_dir is not None:
                own += ["--run-dir", str(options.run_dir / game)]
            wanted.append(("train", [*shared, *own]))
    parse = parser().parse_args
    return [(part, arguments, parse([part, *arguments])) for part, arguments in wanted]


def items(part: str, arguments: list[str], options: argparse.Namespace) -> list[Item]:
    """What there is to find out in a part."""
    name = f"train_{options.game}" if part == "train" else part
    settings = {
        key: getattr(options, key) for key in ("preset", "game", "device", "seed", "seconds")
    }
    results = Results(options.out / f"{name}.json", settings, None if part == "train" else code())
    is_training = part == "train"
    command = [sys.executable, str(Path(__file__).resolve()), part, *arguments]
    return [
        Item(
            name=found,
            results=results,
            command=command,
            frames=options.frames,
            is_training=is_training,
            is_alone=part not in SIDE_BY_SIDE,
        )
        for found in (["training"] if is_training else table(part, options))
    ]


def table(part: str, options: argparse.Namespace) -> dict[str, Work]:
    """All things to find out in a part, by name."""
    if part == "tests":
        return cuda_tests()
    if part == "prototypes":
        return scripts(options.prototypes)
    config = config_of(options)
    if part == "train":
        run_dir = options.run_dir or Path(f"runs/gpu_check_{options.game}")
        return {"training": partial(train, config, run_dir, options.out, options)}
    spec = environment_spec(config.env)
    return MEASUREMENTS[part](config, spec, options.device, options.seconds)


def config_of(options: argparse.Namespace) -> Config:
    """The preset with what the command line says."""
    config = with_learner(preset(options.preset), device=options.device)
    env = dataclasses.replace(config.env, task=options.game)
    return dataclasses.replace(config, seed=options.seed, env=env)


if __name__ == "__main__":
    sys.exit(main())
