"""Times `dreamer local` and sheeprl on sheeprl's own Dreamer benchmark, one after the other.

    .venv/bin/python benchmarks/sheeprl/compare.py --sheeprl-python SHEEPRL/bin/python \
        --json benchmarks/results/sheeprl.json

Each trains in a process of its own, with files of its own, timed from its start to its end with
all that it starts. README.md beside this file says what is alike and what cannot be.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer_core.bench.measure import machine, scratch_directory
from dreamer_core.report.read import read_jsonl
from dreamer_core.storage.run_directory import read_config

POLICY_STEPS = 16_384
PREFILL_POLICY_STEPS = 1_024
POLICY_STEPS_PER_GRADIENT_STEP = 16
RUN = "run"
SET_BY_OURS = "OMP_WAIT_POLICY"  # by dreamer_core, for its own process

WORKLOAD: dict[str, Any] = {
    "env.task": "ms_pacman",
    "env.is_grayscale": False,
    "env.sticky_action_probability": 0.0,
    "world_model.deter": 8,
    "world_model.hidden": 8,
    "world_model.stoch": 4,
    "world_model.classes": 4,
    "world_model.conv_depth": 2,
    "world_model.head_layers": 1,
    "world_model.head_units": 8,
    "world_model.kl_scale": 1.0,
    "world_model.has_discount_head": False,
    "world_model.reward_transform": "identity",
    "world_model.optimizer.learning_rate": 3e-4,
    "behavior.horizon": 15,
    "behavior.discount": 0.99,
    "behavior.entropy_scale": 1e-4,
    "behavior.layers": 1,
    "behavior.units": 8,
    "behavior.actor_optimizer.learning_rate": 8e-5,
    "behavior.critic_optimizer.learning_rate": 8e-5,
    "replay.capacity_steps": POLICY_STEPS,
    "replay.batch_size": 16,
    "replay.batch_length": 50,
    "replay.is_end_oversampled": False,
    "schedule.policy_steps_per_gradient_step": POLICY_STEPS_PER_GRADIENT_STEP,
    "schedule.collect_policy_steps": POLICY_STEPS_PER_GRADIENT_STEP,
    "schedule.publish_interval_gradient_steps": 1,
    "learner.device": "cpu",
    "learner.num_threads": 1,
}
"""sheeprl's dreamer_v2_benchmarks in our words, as changes to preset `atari`. It trains after every
16th policy step and plays with the newest weights, hence the schedule's collecting and publishing.
Its free nats are left out, since processes that share a batch have none."""

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "dreamer_v2_benchmarks": {},
    "dreamer_v3_benchmarks": {
        "replay.batch_length": 64,
        "world_model.has_discount_head": True,
        "behavior.discount": 0.997,
    },
}
"""sheeprl's experiments, and what we change for them. The second trains another algorithm."""

QUIET = (
    "fabric.accelerator=cpu",
    "metric.log_level=0",
    "checkpoint.every=0",
    "checkpoint.save_last=False",
    "env.capture_video=False",
)
"""What sheeprl leaves out here; we write logs, checkpoints and pictures all the same."""

SHEEPRL_VERSIONS = """
import importlib.metadata, json, platform
names = ("sheeprl", "lightning", "torch", "numpy", "ale-py", "gymnasium")
found = {name: importlib.metadata.version(name) for name in names}
print(json.dumps({"python": platform.python_version(), **found}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of the benchmark is run."""

    policy_steps: int
    prefill_policy_steps: int

    @property
    def gradient_steps(self) -> int:
        """What both take: one for every 16 policy steps after the prefill."""
        trained_on = self.policy_steps - self.prefill_policy_steps
        return trained_on // POLICY_STEPS_PER_GRADIENT_STEP


def ours(size: Size, experiment: str, processes: int) -> list[str]:
    """The command that trains this project's agent, in RUN of the directory where it runs."""
    changes = WORKLOAD | EXPERIMENTS[experiment]
    changes |= {
        "steps": size.policy_steps,
        "schedule.prefill_policy_steps": size.prefill_policy_steps,
        "learner.num_processes": processes,
    }
    dreamer = str(Path(sys.executable).with_name("dreamer"))
    options = [word for change in changes.items() for word in option(*change)]
    return [dreamer, "local", "atari", "--run-dir", RUN, *options]


def option(path: str, value: Any) -> list[str]:
    """A setting as words of the command line."""
    section, _, leaf = path.replace("_", "-").rpartition(".")
    prefix = f"--{section}." if section else "--"
    if isinstance(value, bool):
        return [f"{prefix}{'' if value else 'no-'}{leaf}"]
    return [f"{prefix}{leaf}", str(value)]


def theirs(size: Size, options: argparse.Namespace) -> list[str]:
    """The command that trains sheeprl's agent."""
    return [
        *(str(options.sheeprl_python), "-m", "sheeprl", f"exp={options.experiment}"),
        f"algo.total_steps={size.policy_steps}",
        f"algo.learning_starts={size.prefill_policy_steps}",
        *QUIET,
        *options.sheeprl_override,
    ]


def timed(command: list[str], directory: Path, threads: int | None = None) -> dict[str, Any]:
    """Runs a command to its end; seconds on the wall and of processors, its children's included.

    Args:
        command: its words.
        directory: where it runs and leaves `output.txt`.
        threads: of OpenMP; None leaves them alone.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    directory.mkdir()
    env = {name: value for name, value in os.environ.items() if name != SET_BY_OURS}
    env |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    load, before = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    with (directory / "output.txt").open("w") as output:
        done = subprocess.run(  # noqa: S603 (the caller's own words)
            command, cwd=directory, env=env, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    wall_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        end = (directory / "output.txt").read_text()[-2000:]
        raise RuntimeError(f"exit code {done.returncode} of {' '.join(command)}:\n{end}")
    used_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    words = [Path(command[0]).name, *command[1:]]
    return {"wall_s": wall_s, "cpu_s": used_s, "load_before": load, "command": words}


def compare(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The result as it goes into a file.

    Raises:
        RuntimeError: a run failed, or ours took another number of gradient steps than planned.
    """
    size = Size(
        policy_steps=round(options.share * POLICY_STEPS),
        prefill_policy_steps=round(options.share * PREFILL_POLICY_STEPS),
    )
    command, run_dir = ours(size, options.experiment, options.processes), directory / "ours" / RUN
    found = {"ours": timed(command, directory / "ours")}
    taken = max(line.gradient_step for line in read_jsonl(run_dir / "metrics.jsonl"))
    if taken != size.gradient_steps:
        raise RuntimeError(f"wanted {size.gradient_steps} gradient steps of ours, got {taken}")
    command, threads = theirs(size, options), options.sheeprl_threads
    found["sheeprl"] = timed(command, directory / "sheeprl", threads)
    return {
        "what": "seconds of a whole training run, from the start of its process to the end",
        "experiment": options.experiment,
        "share": options.share,
        **dataclasses.asdict(size),
        "gradient_steps": size.gradient_steps,
        "times_faster": found["sheeprl"]["wall_s"] / found["ours"]["wall_s"],
        "times_less_cpu": found["sheeprl"]["cpu_s"] / found["ours"]["cpu_s"],
        "ours": found["ours"],
        "sheeprl": found["sheeprl"]
        | {"threads": threads, "versions": sheeprl_versions(options.sheeprl_python)},
        "settings": dataclasses.asdict(read_config(run_dir)),
        **machine(),
        "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def sheeprl_versions(python: Path) -> dict[str, str]:
    """Versions in sheeprl's environment."""
    command = [str(python), "-c", SHEEPRL_VERSIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sheeprl-python", type=Path, required=True, help="of its environment")
    parser.add_argument("--experiment", choices=EXPERIMENTS, default="dreamer_v2_benchmarks")
    parser.add_argument("--share", type=float, default=1.0, help="of all steps, prefill included")
    parser.add_argument("--processes", type=int, default=2, help="learner.num_processes of ours")
    parser.add_argument("--sheeprl-threads", type=int, default=1, help="of torch in sheeprl")
    parser.add_argument("--sheeprl-override", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    batch_length = (WORKLOAD | EXPERIMENTS[options.experiment])["replay.batch_length"]
    least = batch_length / PREFILL_POLICY_STEPS
    if not least <= options.share <= 1:
        parser.error(
            f"--share {options.share} must be {least:.4f} to 1: a smaller prefill is shorter than "
            "one sequence, so no batch could be drawn"
        )
    options.sheeprl_python = options.sheeprl_python.absolute()
    return options


def main() -> None:
    """Times both, prints the result and writes it where it is wanted."""
    options = parse()
    with scratch_directory() as directory:
        text = json.dumps(compare(options, directory), indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
