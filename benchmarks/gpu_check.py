"""Checks and measures the learner on a CUDA machine, then trains on Atari there. No Ray.

    python benchmarks/gpu_check.py correctness timings profile --out results
    python benchmarks/gpu_check.py train --game freeway --minutes 9 --out results   again resumes

Needs Python 3.11 to 3.14 with torch >= 2.9, numpy, msgpack, gymnasium, ale-py, tensorboard,
matplotlib, pillow and opencv (headless will do), and triton and a C compiler for the compiled form.
With `--device cpu --preset debug` all of it runs on a CPU: what is captured there is eager here.

Writes small JSON files: correctness.json, timings.json, profile.json, train_GAME.json with the
learning curve, and the run directory (checkpoints and replay, resumable) under --run-dir.
`--small-checkpoint` writes the weights in bfloat16, without the optimisers' moments, to files of at
most 15 MB in a folder named after the game; `--weights-from` begins a run with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dreamer_core  # noqa: F401  (before torch: it keeps torch's idle threads from spinning)

# isort: split
from benchmarks.gpu.correctness import correctness
from benchmarks.gpu.timings import profile, timings
from benchmarks.gpu.training import train
from benchmarks.gpu.variants import with_learner
from dreamer_core.bench.measure import machine
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.presets import preset


class Results:
    """What one part has found so far, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {**machine()}

    def keep(self, what: str, result: dict[str, Any]) -> None:
        """Takes a result by name, and writes what there is so far."""
        self._found[what] = result
        self._path.write_text(json.dumps(self._found, indent=1) + "\n")
        sys.stdout.write(f"{self._path.stem}, {what}: {json.dumps(result)[:1500]}\n")
        sys.stdout.flush()

    def has_passed(self) -> bool:
        """Whether no check says that it failed."""
        return has_passed(self._found)


def main() -> int:
    """Runs the wanted parts; 1 if a check failed."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    config = preset(options.preset)
    config = dataclasses.replace(
        with_learner(config, device=options.device),
        seed=options.seed,
        env=dataclasses.replace(config.env, task=options.game),
    )
    is_good = [run_part(part, config, options) for part in options.parts]
    return 0 if all(is_good) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="+", choices=["correctness", "timings", "profile", "train"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--preset", default="atari_release")
    parser.add_argument("--game", default="freeway")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    parser.add_argument("--run-dir", type=Path, help="default: runs/gpu_check_GAME")
    parser.add_argument("--small-checkpoint", action="store_true")
    parser.add_argument("--weights-from", type=Path, help="a folder with weights_*.pt")
    return parser.parse_args()


def run_part(part: str, config: Config, options: argparse.Namespace) -> bool:
    """Runs one part and writes what it finds; whether no check of it failed."""
    name = f"train_{options.game}" if part == "train" else part
    results = Results(options.out / f"{name}.json")
    spec = environment_spec(config.env)
    if part == "correctness":
        correctness(config, spec, options.device, results.keep)
    elif part == "timings":
        timings(config, spec, options.device, options.seconds, results.keep)
    elif part == "profile":
        profile(config, spec, options.device, results.keep)
    else:
        run_dir = options.run_dir or Path(f"runs/gpu_check_{options.game}")
        results.keep("training", train(config, run_dir, options.out, options))
    return results.has_passed()


def has_passed(found: Any) -> bool:
    """Whether no check anywhere inside says that it failed."""
    if isinstance(found, dict):
        return found.get("passed", True) and all(has_passed(value) for value in found.values())
    return True


if __name__ == "__main__":
    sys.exit(main())
