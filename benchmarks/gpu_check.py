"""Checks and measures the learner on a CUDA machine, then trains on Atari there. No Ray.

    python benchmarks/gpu_check.py correctness acting timings layers --out results
    python benchmarks/gpu_check.py train --game freeway --minutes 9 --out results   again resumes

Needs Python 3.11 to 3.14 with torch >= 2.9, numpy, msgpack, gymnasium, ale-py, tensorboard,
matplotlib, pillow and opencv (headless will do), and triton and a C compiler for the compiled form.
With `--device cpu --preset debug` all of it runs on a CPU: what is captured there is eager here.

Writes small JSON files: correctness.json, acting.json, timings.json, layers.json, train_GAME.json
with the learning curve, and the run directory (checkpoints and replay, resumable) under --run-dir.
What stands in a file with the same commit is not done again, so that a part that was cut off goes
on. Checks of correctness run side by side, each in a process of its own; all else runs alone.
`--small-checkpoint` writes the weights in bfloat16, without the optimisers' moments, to files of at
most 15 MB in a folder named after the game; `--weights-from` begins a run with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dreamer_core  # noqa: F401  (before torch: it keeps torch's idle threads from spinning)

# isort: split
from benchmarks.gpu.acting import acting
from benchmarks.gpu.correctness import compare, refusal, scan_error
from benchmarks.gpu.layers import layers
from benchmarks.gpu.timings import timings
from benchmarks.gpu.training import train
from benchmarks.gpu.variants import attempt, name_of, variants, with_learner
from dreamer_core.bench.measure import machine
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.presets import preset
from dreamer_core.types import EnvSpec

MEASUREMENTS = {"acting": acting, "timings": timings, "layers": layers}


class Results:
    """What one part has found so far, in a file of its own."""

    def __init__(self, path: Path, only: str | None) -> None:
        self._path = path
        self._only = only
        self._found: dict[str, Any] = {**machine()}
        if path.exists():
            before = json.loads(path.read_text())
            if before["commit"] == self._found["commit"]:
                self._found = before

    def measure(self, what: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        """Does work whose result is not there yet; why it failed is a result too."""
        if what not in self._found and self._only in (None, what):
            self.keep(what, attempt(work, *arguments))

    def keep(self, what: str, result: dict[str, Any]) -> None:
        """Takes a result by name, and writes what there is so far."""
        self._found[what] = result
        self._path.write_text(json.dumps(self._found, indent=1) + "\n")
        sys.stdout.write(f"{self._path.stem}, {what}: {json.dumps(result)[:400]}\n")
        sys.stdout.flush()

    def lacks(self, what: str) -> bool:
        """Whether there is no such result yet and one is wanted."""
        return what not in self._found and self._only in (None, what)

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
    if options.check is not None:
        work, *arguments = checks(config, environment_spec(config.env), options.device)[
            options.check
        ]
        sys.stdout.write(json.dumps(attempt(work, *arguments)))
        return 0
    is_good = [run_part(part, config, options) for part in options.parts]
    return 0 if all(is_good) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="+", choices=["correctness", *MEASUREMENTS, "train"])
    parser.add_argument(
        "--check", help="of correctness, this one alone, and to the standard output"
    )
    parser.add_argument("--only", help="the result of this name alone")
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
    spec = environment_spec(config.env)
    name = f"train_{options.game}" if part == "train" else part
    results = Results(options.out / f"{name}.json", options.only)
    if part == "correctness":
        side_by_side(list(checks(config, spec, options.device)), results)
    elif part == "train":
        run_dir = options.run_dir or Path(f"runs/gpu_check_{options.game}")
        results.keep("training", train(config, run_dir, options.out, options))
    else:
        MEASUREMENTS[part](config, spec, options.device, options.seconds, results.measure)
    return results.has_passed()


def checks(config: Config, spec: EnvSpec, device: str) -> dict[str, tuple[Any, ...]]:
    """Every check of correctness by name, with its arguments."""
    return {
        **{
            f"{name_of(learner)} against eager float32": (compare, config, spec, learner)
            for learner in variants(device)
        },
        "scan against plain recurrence": (scan_error, config, spec, device),
        "not finite": (refusal, config, spec, device),
    }


def side_by_side(names: list[str], results: Results) -> None:
    """Runs checks of correctness in processes of their own."""
    running = {
        name: subprocess.Popen(  # noqa: S603 (this very script)
            [sys.executable, *sys.argv, "--check", name], stdout=subprocess.PIPE, text=True
        )
        for name in names
        if results.lacks(name)
    }
    for name, process in running.items():
        answer, _ = process.communicate()
        failed = {"passed": False, "error": f"ended with {process.returncode}"}
        results.keep(name, json.loads(answer) if process.returncode == 0 else failed)


def has_passed(found: Any) -> bool:
    """Whether no check anywhere inside says that it failed."""
    if isinstance(found, dict):
        return found.get("passed", True) and all(has_passed(value) for value in found.values())
    return True


if __name__ == "__main__":
    sys.exit(main())
