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
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dreamer_core  # noqa: F401  (before torch: it keeps torch's idle threads from spinning)

# isort: split
import torch

from dreamer_core.agent.agent import DreamerAgent, NonFiniteLoss
from dreamer_core.agent.device import Staging
from dreamer_core.agent.update import OPTIMIZERS
from dreamer_core.bench.benchmark import bench_policy, random_batch, update_flops
from dreamer_core.bench.measure import machine, matrix_rate, measure, summary, synchronize
from dreamer_core.config import Config
from dreamer_core.envs.suites import environment_spec
from dreamer_core.model.distributions import CategoricalLatent
from dreamer_core.presets import preset
from dreamer_core.report.read import read_jsonl
from dreamer_core.run.local import train_local
from dreamer_core.run.trainer import Trainer
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import open_run
from dreamer_core.storage.store import LocalStore
from dreamer_core.types import Batch, EnvSpec, Report

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


Keep = Callable[[str, dict[str, Any]], None]
"""Takes a result by name, and writes what there is so far."""


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
    """Learner settings to compare; the first is the reference, the last what training takes."""
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


def fresh() -> None:
    """Frees the agent before, its graph and what was compiled for it."""
    gc.collect()
    torch._dynamo.reset()  # noqa: SLF001
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def attempt(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of work, or why it failed, so that one variant does not cost the others."""
    fresh()
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001 (whatever a card's software raises is a result)
        return {"passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}


# --- Correctness ----------------------------------------------------------------------------------


def correctness(config: Config, spec: EnvSpec, device: str, keep: Keep) -> None:
    """Every variant against eager float32, the scan, a step that is not finite, drift."""
    batch = random_batch(config, spec)
    reference, *others = variants(device)
    theirs = first_metrics(config, spec, reference, batch)
    for learner in [reference, *others]:
        keep(
            f"{name_of(learner)} against eager float32",
            attempt(compare, config, spec, learner, batch, theirs),
        )
    keep("scan against plain recurrence", attempt(scan_error, config, spec, device, batch))
    chosen = variants(device)[-1]
    keep("not finite", attempt(refusal, config, spec, chosen, batch))
    keep("drift", attempt(drift, config, spec, device))


def first_metrics(
    config: Config, spec: EnvSpec, learner: dict[str, str], batch: Batch
) -> dict[str, float]:
    """Metrics of the first gradient step of a new agent."""
    agent = DreamerAgent(with_learner(config, **learner), spec)
    metrics = {k: float(v) for k, v in agent.train_step(batch).items()}
    agent.check()
    return metrics


def compare(
    config: Config,
    spec: EnvSpec,
    learner: dict[str, str],
    batch: Batch,
    theirs: dict[str, float],
) -> dict[str, Any]:
    """Losses and gradient norms of one variant's first step against the reference."""
    ours = first_metrics(config, spec, learner, batch)
    errors = {name: relative(ours, theirs, name) for name in (*LOSSES, *NORMS)}
    tolerance = TOLERANCE[learner["precision"]]
    largest = max(errors.values())
    return {
        "largest_error": largest,
        "tolerance": tolerance,
        "passed": largest <= tolerance,
        "errors": errors,
    }


def refusal(config: Config, spec: EnvSpec, learner: dict[str, str], batch: Batch) -> dict[str, Any]:
    """A reward that is not a number is named, and changes no weight."""
    agent = DreamerAgent(with_learner(config, **learner), spec)
    agent.train_step(batch)
    before = weights_of(agent)
    bad = dataclasses.replace(batch, reward=batch.reward.copy())
    bad.reward[0, 0] = float("nan")
    message = ""
    try:
        agent.train_step(bad)
        agent.check()
    except NonFiniteLoss as error:
        message = str(error)
    is_same = torch.equal(before, weights_of(agent))
    return {"message": message, "passed": is_same and "reward is not finite" in message}


def weights_of(agent: DreamerAgent) -> torch.Tensor:
    """Every parameter in one vector on the host."""
    parameters = [*agent.world_model.parameters(), *agent.behavior.parameters()]
    return torch.cat([p.detach().flatten().cpu() for p in parameters])


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
    small = with_batch(config, min(8, config.replay.batch_size), config.replay.batch_length)
    vectors: dict[str, torch.Tensor] = {}
    for learner in variants(device):
        fresh()
        agent = DreamerAgent(with_learner(small, **learner), spec)
        for seed in range(steps):
            agent.train_step(random_batch(small, spec, seed))
        agent.check()
        vectors[name_of(learner)] = weights_of(agent)
        del agent
    exact = vectors["eager float32"]
    noise = distance(vectors.get("eager bfloat16", exact), exact)
    captured = {
        name: distance(vector, vectors.get("eager bfloat16", exact))
        for name, vector in vectors.items()
        if not name.startswith("eager") and name.endswith("bfloat16")
    }
    return {
        "steps": steps,
        "bfloat16_from_float32": noise,
        "captured_from_eager": captured,
        "passed": all(value <= DRIFT_TOLERANCE * noise for value in captured.values()),
    }


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative distance of two vectors."""
    return float((ours - theirs).norm() / theirs.norm())


# --- Timings --------------------------------------------------------------------------------------


def timings(config: Config, spec: EnvSpec, device: str, seconds: float, keep: Keep) -> None:
    """Update by variant and batch, staging, policy step, snapshot."""
    sizes = [(50, 50), (16, 50)] if config.preset != "debug" else [(3, 8)]
    for batch, length in sizes:
        sized = with_batch(config, batch, length)
        for learner in reversed(variants(device)):
            keep(
                f"update {batch} x {length} {name_of(learner)}",
                attempt(time_update, with_learner(sized, **learner), spec, seconds),
            )
    best = with_learner(config, **variants(device)[-1])
    keep("staging", attempt(time_staging, best, spec, seconds))
    keep("snapshot", attempt(time_snapshot, best, spec, seconds))
    keep("policy on cpu", attempt(lambda: bench_policy(config, seconds=seconds).to_json()))


def time_update(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """One variant: device-synchronised seconds, seconds in a stream of steps, memory, kernels."""
    started = time.perf_counter()
    agent, batch = DreamerAgent(config, spec), random_batch(config, spec)
    agent.train_step(batch)
    synchronize(agent.device)
    first_s = time.perf_counter() - started
    samples = measure(
        lambda: agent.train_step(batch),
        seconds=seconds,
        synchronize=lambda: synchronize(agent.device),
    )
    count = max(5, int(seconds / statistics.median(samples)))
    started = time.perf_counter()
    for _ in range(count):
        agent.train_step(batch)
    synchronize(agent.device)
    streamed_s = (time.perf_counter() - started) / count
    flops = sum(update_flops(config, spec).values())
    rate = matrix_rate(agent.device, agent.execution.dtype)
    kernels = profiled(agent, batch)
    found = {
        **summary(samples),
        "streamed_s": streamed_s,
        "first_step_s": first_s,
        "floor_s": flops / rate,
        "ratio_to_floor": streamed_s / (flops / rate),
        "matrix_tflops": rate / 1e12,
        "kernels": sum(count for _, count, _ in kernels),
        "busy_share": min(1.0, sum(us for _, _, us in kernels) / 1e6 / streamed_s),
    }
    if agent.device.type == "cuda":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_memory_bytes"] = torch.cuda.max_memory_reserved()
    return found


def profiled(agent: DreamerAgent, batch: Batch) -> list[tuple[str, int, float]]:
    """(name, calls, microseconds) of the kernels or operators of one update, slowest first."""
    on_cuda = agent.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if on_cuda:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        agent.train_step(batch)
        synchronize(agent.device)
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

    return summary(measure(stage, seconds=seconds, synchronize=lambda: synchronize(device)))


def time_snapshot(config: Config, spec: EnvSpec, seconds: float) -> dict[str, Any]:
    """Weights of the policy to host memory with steps under way; less the time of one step each."""
    agent, batch = DreamerAgent(config, spec), random_batch(config, spec)

    def step() -> None:
        agent.train_step(batch)
        synchronize(agent.device)

    def step_and_snapshot() -> None:
        agent.train_step(batch)
        agent.snapshot()

    alone = summary(measure(step, seconds=seconds))
    both = summary(measure(step_and_snapshot, seconds=seconds))
    return {"median_s": both["median_s"] - alone["median_s"], "step_and_snapshot": both}


def profile(config: Config, spec: EnvSpec, device: str, keep: Keep) -> None:
    """The slowest kernels of one update in the form that training takes."""
    keep("update", attempt(slowest, config, spec, device))


def slowest(config: Config, spec: EnvSpec, device: str) -> dict[str, Any]:
    """Kernels of one update, slowest first."""
    agent = DreamerAgent(with_learner(config, **variants(device)[-1]), spec)
    batch = random_batch(config, spec)
    for _ in range(3):
        agent.train_step(batch)
    synchronize(agent.device)
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
    began = time.monotonic()
    deadline = began + 60 * options.minutes
    before = newest_counts(run_dir)
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
        folder = out / config.env.task
        folder.mkdir(exist_ok=True)
        write_small(run_dir, folder)
    return {
        "game": config.env.task,
        "preset": config.preset,
        "seed": config.seed,
        "policy_steps": result.policy_steps,
        "frames": result.policy_steps * config.env.action_repeat,
        "gradient_steps": result.gradient_steps,
        "median_gradient_steps_per_second": statistics.median(speeds) if speeds else None,
        "frames_per_second_of_this_piece": (result.policy_steps - before)
        * config.env.action_repeat
        / (time.monotonic() - began),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "last_20_episodes_mean": statistics.fmean(r for _, r in episodes[-20:])
        if episodes
        else None,
        "episodes_by_frame": episodes,
        "small_checkpoint": options.small_checkpoint,
    }


def newest_counts(run_dir: Path) -> int:
    """Policy steps of a run so far; 0 if it is new."""
    log = run_dir / "metrics.jsonl"
    return max((line.policy_step for line in read_jsonl(log)), default=0) if log.exists() else 0


def write_small(run_dir: Path, out: Path) -> None:
    """Writes the newest weights in bfloat16 without moments, in pieces."""
    for old in out.glob("weights_*.pt"):
        old.unlink()
    found = checkpoint.load(LocalStore(run_dir / "checkpoints"))
    assert found is not None
    pieces: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for part in ("world_model", "behavior"):
        for name, value in found.tensors[part].items():
            reduced = value.to(torch.bfloat16)
            if pieces[-1] and size + reduced.nbytes > PIECE_BYTES:
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
        name = f"train_{options.game}" if part == "train" else part
        found: dict[str, Any] = {**machine()}

        def keep(
            what: str, result: dict[str, Any], name: str = name, found: dict[str, Any] = found
        ) -> None:
            found[what] = result
            (options.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
            sys.stdout.write(f"{name}, {what}: {json.dumps(result)[:1500]}\n")
            sys.stdout.flush()

        if part == "correctness":
            correctness(config, spec, options.device, keep)
        elif part == "timings":
            timings(config, spec, options.device, options.seconds, keep)
        elif part == "profile":
            profile(config, spec, options.device, keep)
        else:
            run_dir = options.run_dir or Path(f"runs/gpu_check_{options.game}")
            keep("training", train(config, run_dir, options.out, options))
        is_good &= has_passed(found)
    return 0 if is_good else 1


def has_passed(found: Any) -> bool:
    """Whether no check anywhere inside says that it failed."""
    if isinstance(found, dict):
        return found.get("passed", True) and all(has_passed(value) for value in found.values())
    return True


if __name__ == "__main__":
    sys.exit(main())
