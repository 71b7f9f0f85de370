"""benchmarks/gpu_check.py from start to end on a CPU, with what is captured replaced by eager."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "gpu_check.py"


def run_script(*arguments: object) -> str:
    command = [sys.executable, str(SCRIPT), *map(str, arguments), "--device", "cpu"]
    done = subprocess.run(
        [*command, "--preset", "debug"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def result(out: Path, name: str) -> dict:
    return json.loads((out / f"{name}.json").read_text())


def test_correctness_and_timings_are_written(tmp_path):
    run_script("correctness", "acting", "timings", "layers", "--seconds", 0.05, "--out", tmp_path)
    correctness = result(tmp_path, "correctness")
    for check in (
        "eager float32 against eager float32",
        "scan against plain recurrence",
        "not finite",
    ):
        assert correctness[check]["passed"], check
    update = result(tmp_path, "timings")["update 3 x 8 eager float32"]
    assert update["median_s"] > 0 and update["ratio_to_floor"] > 1
    assert sum(row["calls"] for row in update["slowest"]) <= update["kernels"]
    assert result(tmp_path, "acting")["policy on 1 threads"]["median_s"] > 0
    assert result(tmp_path, "layers")["convolutions by trial"]["decoder 3"]["both"] > 0


def test_training_stops_resumes_and_begins_from_a_small_checkpoint(tmp_path):
    train = ("train", "--game", "pong", "--out", tmp_path)
    first = ("--run-dir", tmp_path / "run", "--small-checkpoint")
    run_script(*train, *first, "--minutes", 0.03)
    before = result(tmp_path, "train_pong")["training"]
    run_script(*train, *first, "--minutes", 0.05)
    after = result(tmp_path, "train_pong")["training"]
    assert after["policy_steps"] > before["policy_steps"] > 0
    assert sum(path.stat().st_size for path in (tmp_path / "pong").glob("weights_*.pt")) < 200_000
    assert (tmp_path / "pong_learning_curve.png").exists()
    again = ("--run-dir", tmp_path / "other", "--weights-from", tmp_path / "pong")
    run_script(*train, *again, "--minutes", 0.02)
    assert (tmp_path / "other" / "checkpoints").exists()
