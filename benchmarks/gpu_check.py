"""Checks and measures the learner on a CUDA machine, then trains on Atari there. No Ray.

    python benchmarks/gpu_check.py correctness timings profile --out results
    python benchmarks/gpu_check.py train --game freeway --minutes 9 --out results   again resumes

Needs Python 3.11 to 3.14 with torch >= 2.9, numpy, msgpack, gymnasium, ale-py, tensorboard,
matplotlib, pillow and opencv (headless will do), and triton and a C compiler for the compiled form.
With `--device cpu --preset debug` all of it runs on a CPU: what is captured there is eager here.

Writes small JSON files: correctness.json, timings.json, profile.json, train_GAME.json with the
learning curve, and the run directory (checkpoints and replay, resumable) under --run-dir.
`--small-checkpoint` writes the weights in bfloat16, without the optimisers' moments, to files of at
most 15 MB beside the results; `--weights-from` begins a run with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dreamer_core  # noqa: F401  (before torch: it keeps torch's idle threads from spinning)

# isort: split
import torch

from dreamer_core import checkpoint
from dreamer_core.agent import DreamerAgent
from dreamer_core.benchmark import random_batch, update_flops
from dreamer_core.config import Config
from dreamer_core.device import Staging
from dreamer_core.distributions import CategoricalLatent
from dreamer_core.environment import EnvSpec
from dreamer_core.envs import environment_spec
from dreamer_core.measure import machine, matrix_rate, measure, summary
from dreamer_core.policy import Policy, num_threads, step_generator
from dreamer_core.presets import preset
from dreamer_core.report import read_jsonl
from dreamer_core.run_directory import open_run
from dreamer_core.train_local import train_local
from dreamer_core.trainer import Trainer
from dreamer_core.types import Batch, Report
from dreamer_core.update import OPTIMIZERS

LOSSES = ("world_model_loss", "image_loss", "reward_loss", "kl_loss", "actor_loss", "critic_loss")
NORMS = tuple(f"{name}_gradient_norm" for name in OPTIMIZERS)
# Largest relative error of a loss or norm against eager float32 in the first step, by precision.
# The actor's loss is a small difference of large terms and is compared on the scale of the
# critic's target instead.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
DRIFT_STEPS = 200
# Captured weights may differ from eager ones by this many times what bfloat16 itself changes.
DRIFT_TOLERANCE = 2.0
PIECE_BYTES = 15_000_000


class PlainLatent(CategoricalLatent):
    """The same family, which the written-out scan does not know."""


def with_learner(config: Config, **changes: Any) -> Config:
    """The config with fields of its learner changed."""
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, **changes))


def with_batch(config: Config, batch: int, length: int) -> Config:
    """The config with another batch size."""
    replay = dataclasses.replace(config.replay, batch_size=batch, batch_length=length)
    return dataclasses.replace(config, replay=replay)


def variants(device: str) -> list[dict[str, str]]:
    """Learner settings to compare; the first is the reference."""
    if device == "cpu":
        return [{"device": "cpu", "precision": "float32", "execution": "eager"}]
    return [
        {"device": "cuda", "precision": precision, "execution": execution}
        for precision in ("float32", "bfloat16")
        for execution in ("eager", "captured", "compiled")
    ]


def name_of(learner: dict[str, str]) -> str:
    """Such as `captured bfloat16`."""
    return f"{learner['execution']} {learner['precision']}"


def wait(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- Correctness ----------------------------------------------------------------------------------


def correctness(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """Every variant against eager float32, drift, the scan, and a step that is not finite."""
    batches = [random_batch(config, spec, seed) for seed in range(3)]
    rows: dict[str, Any] = {}
    reference: dict[str, float] = {}
    for learner in variants(device):
        agent = DreamerAgent(with_learner(config, **learner), spec)
        metrics = {k: float(v) for k, v in agent.train_step(batches[0]).items()}
        agent.check()
        reference = reference or metrics
        errors = {name: relative(metrics, reference, name) for name in (*LOSSES, *NORMS)}
        tolerance = TOLERANCE[learner["precision"]]
        rows[name_of(learner)] = {
            "largest_error": max(errors.values()),
            "tolerance": tolerance,
            "passed": max(errors.values()) <= tolerance,
            "errors": errors,
        }
        del agent
    return {
        "against_eager_float32": rows,
        "scan_against_plain_recurrence": scan_error(config, spec, device, batches[0]),
        "drift": drift(config, spec, device),
    }


def relative(ours: dict[str, float], theirs: dict[str, float], name: str) -> float:
    """Relative error of a metric; see TOLERANCE for the actor's loss."""
    a, b = ours[f"dreamer_{name}"], theirs[f"dreamer_{name}"]
    scale = max(abs(b), 1e-3)
    if name == "actor_loss":
        scale = max(scale, abs(theirs["dreamer_actor_target_mean"]), 0.1)
    return abs(a - b) / scale


def scan_error(config: Config, spec: EnvSpec, device: str, batch: Batch) -> dict[str, Any]:
    """Gradient norms of the world model by the scan and by plain autograd, float32."""
    norms: list[float] = []
    for is_plain in (False, True):
        learner = {"device": device, "precision": "float32", "execution": "eager"}
        agent = DreamerAgent(with_learner(config, **learner), spec)
        if is_plain:
            rssm = agent.world_model.rssm
            rssm.latent = PlainLatent(*rssm.latent.stats_shape)
        norms.append(float(agent.train_step(batch)["dreamer_world_model_gradient_norm"]))
    error = abs(norms[0] - norms[1]) / norms[1]
    return {"relative_error_of_gradient_norm": error, "passed": error < TOLERANCE["float32"]}


def drift(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """Distance of weights after many steps: captured from eager, beside bfloat16 from float32."""
    steps = DRIFT_STEPS if device == "cuda" else 5
    reduced = {"device": device, "precision": "bfloat16"}
    chosen = (
        [
            {"device": "cuda", "precision": "float32", "execution": "eager"},
            {**reduced, "execution": "eager"},
            {**reduced, "execution": "compiled"},
        ]
        if device == "cuda"
        else variants("cpu") * 3
    )
    small = with_batch(config, min(8, config.replay.batch_size), config.replay.batch_length)
    vectors: list[torch.Tensor] = []
    for learner in chosen:
        agent = DreamerAgent(with_learner(small, **learner), spec)
        for seed in range(steps):
            agent.train_step(random_batch(small, spec, seed))
        agent.check()
        parameters = [*agent.world_model.parameters(), *agent.behavior.parameters()]
        vectors.append(torch.cat([p.detach().flatten().cpu() for p in parameters]))
    noise = float((vectors[1] - vectors[0]).norm() / vectors[0].norm())
    captured = float((vectors[2] - vectors[1]).norm() / vectors[1].norm())
    return {
        "steps": steps,
        "bfloat16_from_float32": noise,
        "captured_from_eager": captured,
        "passed": captured <= DRIFT_TOLERANCE * noise,
    }


# --- Timings --------------------------------------------------------------------------------------


def timings(config: Config, spec: EnvSpec, device: str, seconds: float) -> dict[str, Any]:
    """Update by variant and batch, staging, policy step, snapshot."""
    sizes = [(50, 50), (16, 50)] if config.preset != "debug" else [(3, 8)]
    updates: dict[str, Any] = {}
    for batch, length in sizes:
        sized = with_batch(config, batch, length)
        for learner in variants(device):
            updates[f"{batch} x {length} {name_of(learner)}"] = time_update(
                with_learner(sized, **learner), spec, seconds
            )
    best = with_learner(config, **variants(device)[-1])
    return {
        "updates": updates,
        "staging": time_staging(best, spec, seconds),
        "snapshot": time_snapshot(best, spec, seconds),
        "policy_on_cpu": time_policy(config, spec, seconds),
    }


def time_update(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """One variant: device-synchronised seconds, seconds in a stream of steps, memory, kernels."""
    started = time.perf_counter()
    if config.learner.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    agent, batch = DreamerAgent(config, spec), random_batch(config, spec)
    agent.train_step(batch)
    wait(agent.device)
    first_s = time.perf_counter() - started
    samples = measure(
        lambda: agent.train_step(batch), seconds=seconds, synchronize=lambda: wait(agent.device)
    )
    count = max(5, int(seconds / statistics.median(samples)))
    started = time.perf_counter()
    for _ in range(count):
        agent.train_step(batch)
    wait(agent.device)
    streamed_s = (time.perf_counter() - started) / count
    flops = sum(update_flops(config, spec).values())
    rate = matrix_rate(agent.device, agent.execution.dtype)
    found = {
        **summary(samples),
        "streamed_s": streamed_s,
        "first_step_s": first_s,
        "floor_s": flops / rate,
        "ratio_to_floor": streamed_s / (flops / rate),
        "matrix_tflops": rate / 1e12,
        "kernels": count_kernels(agent, batch),
    }
    if agent.device.type == "cuda":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_memory_bytes"] = torch.cuda.max_memory_reserved()
    return found


def count_kernels(agent: DreamerAgent, batch: Batch) -> int:
    """Kernels (CUDA) or operator calls (CPU) of one update."""
    return sum(count for _, count, _ in profiled(agent, batch))


def profiled(agent: DreamerAgent, batch: Batch) -> list[tuple[str, int, float]]:
    """(name, calls, microseconds) of the kernels or operators of one update, slowest first."""
    on_cuda = agent.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if on_cuda:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        agent.train_step(batch)
        wait(agent.device)
    found = [
        (
            event.key,
            event.count,
            event.self_device_time_total if on_cuda else event.self_cpu_time_total,
        )
        for event in profile.key_averages()
        if ("CUDA" in str(event.device_type)) == on_cuda
    ]
    return sorted(found, key=lambda row: -row[2])


def time_staging(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """From numpy to the device."""
    device = torch.device(config.learner.device)
    staging, batch = Staging(device), random_batch(config, spec)

    def stage() -> None:
        staging(batch)
        staging.mark_read()

    return summary(measure(stage, seconds=seconds, synchronize=lambda: wait(device)))


def time_snapshot(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """Weights of the policy from the device to host memory."""
    agent = DreamerAgent(config, spec)
    return summary(measure(agent.snapshot, seconds=seconds))


def time_policy(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """A policy step of one image on one CPU thread."""
    agent = DreamerAgent(with_learner(config, device="cpu"), spec)
    policy = Policy(config, spec)
    policy.load(agent.snapshot())
    image, state = random_batch(config, spec).image[0, 0], policy.initial()
    with num_threads(1):
        return summary(
            measure(lambda: policy.act(state, image, step_generator(0), "sample"), seconds=seconds)
        )


def profile(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """The slowest kernels of one update in the form that training takes."""
    agent = DreamerAgent(with_learner(config, **variants(device)[-1]), spec)
    batch = random_batch(config, spec)
    for _ in range(3):
        agent.train_step(batch)
    wait(agent.device)
    rows = profiled(agent, batch)
    return {
        "execution": str(agent.execution),
        "kernels": sum(count for _, count, _ in rows),
        "microseconds": sum(us for _, _, us in rows),
        "slowest": [
            {"name": name[:120], "calls": count, "microseconds": us}
            for name, count, us in rows[:40]
        ],
    }


# --- Training -------------------------------------------------------------------------------------


def train(config: Config, run_dir: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains for some minutes from where the run directory stands; writes the curve so far."""
    deadline = time.monotonic() + 60 * options.minutes
    if options.weights_from and not run_dir.exists():
        begin_with(options.weights_from, config, run_dir)
    speeds: list[float] = []

    def observe(report: Report, _policy_step: int, _gradient_step: int) -> None:
        speed = report.values.get("dreamer_gradient_steps_per_second")
        if speed is not None:
            speeds.append(speed)

    result = train_local(
        config, run_dir, observe=observe, should_stop=lambda: time.monotonic() > deadline
    )
    episodes = [
        (episode.policy_step * config.env.action_repeat, episode.episode_return)
        for line in read_jsonl(run_dir / "metrics.jsonl")
        for episode in line.episodes
        if line.service == "collector"
    ]
    for picture in result.pictures:
        (out / f"{config.env.task}_{picture.name}").write_bytes(picture.read_bytes())
    if options.small_checkpoint:
        write_small(run_dir, out)
    return {
        "game": config.env.task,
        "preset": config.preset,
        "seed": config.seed,
        "policy_steps": result.policy_steps,
        "frames": result.policy_steps * config.env.action_repeat,
        "gradient_steps": result.gradient_steps,
        "median_gradient_steps_per_second": statistics.median(speeds) if speeds else None,
        "last_20_episodes_mean": statistics.fmean(r for _, r in episodes[-20:])
        if episodes
        else None,
        "episodes_by_frame": episodes,
        "small_checkpoint": options.small_checkpoint,
    }


def write_small(run_dir: Path, out: Path) -> None:
    """Writes the newest weights in bfloat16 without moments, in pieces."""
    found = checkpoint.load(run_dir / "checkpoints")
    assert found is not None
    pieces: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for part in ("world_model", "behavior"):
        for name, value in found.tensors[part].items():
            reduced = value.to(torch.bfloat16)
            if size + reduced.nbytes > PIECE_BYTES:
                pieces.append({})
                size = 0
            pieces[-1][f"{part}:{name}"] = reduced
            size += reduced.nbytes
    for index, piece in enumerate(pieces):
        torch.save(piece, out / f"weights_{index}.pt")


def begin_with(weights: Path, config: Config, run_dir: Path) -> None:
    """Makes a new run with the weights that `write_small` wrote; moments and counts are zero."""
    paths = sorted(weights.glob("weights_*.pt"))
    if not paths:
        raise SystemExit(f"--weights-from {weights} holds no weights_*.pt; see --small-checkpoint")
    with open_run(run_dir, config) as run:
        trainer = Trainer(config, environment_spec(config.env), run.checkpoints)
        state = trainer.agent.state()
        for path in paths:
            for key, value in torch.load(path, weights_only=True).items():
                part, name = key.split(":", 1)
                state[part][name].copy_(value)
        trainer.save(policy_step=0)


def main() -> int:
    """Runs the wanted parts; 1 if a check failed."""
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
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config = preset(options.preset)
    config = dataclasses.replace(
        with_learner(config, device=options.device),
        seed=options.seed,
        env=dataclasses.replace(config.env, task=options.game),
    )
    spec = environment_spec(config.env)
    is_good = True
    for part in options.parts:
        started = time.perf_counter()
        if part == "correctness":
            found = correctness(config, spec, options.device)
        elif part == "timings":
            found = timings(config, spec, options.device, options.seconds)
        elif part == "profile":
            found = profile(config, spec, options.device)
        else:
            run_dir = options.run_dir or Path(f"runs/gpu_check_{options.game}")
            found = train(config, run_dir, options.out, options)
        found = {**found, **machine(), "seconds": time.perf_counter() - started}
        name = f"train_{options.game}" if part == "train" else part
        path = options.out / f"{name}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        is_good &= has_passed(found)
        sys.stdout.write(f"{part}: {found['seconds']:.0f} s, {path}\n{shown(found)}\n")
    return 0 if is_good else 1


def has_passed(found: Any) -> bool:
    """Whether no check anywhere inside says that it failed."""
    if isinstance(found, dict):
        return found.get("passed", True) and all(has_passed(value) for value in found.values())
    return True


def shown(found: dict[str, Any]) -> str:
    """What fits on a screen."""
    short = {k: v for k, v in found.items() if k not in ("episodes_by_frame", "versions")}
    return json.dumps(short, indent=1)[:6000]


if __name__ == "__main__":
    sys.exit(main())
