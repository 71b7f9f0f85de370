"""It learns: Catch, from pixels alone, in minutes on two CPU cores."""

import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from dreamer_core.presets import preset
from dreamer_core.report.read import read_jsonl
from dreamer_core.run.evaluation import evaluate_run
from dreamer_core.run.local import train_local
from tests.learning.catch import BALLS

SEEDS = os.environ.get("DREAMER_LEARNING_SEEDS", "0").split()
RESULTS = os.environ.get("DREAMER_LEARNING_RESULTS")
TASK = "tests.learning.catch:make_env"
WANTED_RETURN, EVALUATION_EPISODES, WINDOW = 0.9 * BALLS, 20, 20
MINUTES = 10


def catch_config(seed):
    """What `dreamer local gymnasium_tiny --env.task ... --seed ...` trains."""
    config = preset("gymnasium_tiny")
    return dataclasses.replace(config, seed=seed, env=dataclasses.replace(config.env, task=TASK))


def learning_curve(run_dir):
    """(policy step, mean return of the last 20 training episodes) of every episode."""
    lines = read_jsonl(run_dir / "metrics.jsonl")
    episodes = [episode for line in lines for episode in line.episodes]
    returns = [episode.episode_return for episode in episodes]
    means = [np.mean(returns[max(0, i - WINDOW) : i]).item() for i in range(1, len(returns) + 1)]
    return [(episode.policy_step, mean) for episode, mean in zip(episodes, means, strict=True)]


def write_result(seed, **result):
    """Adds this seed's result to the JSON file that DREAMER_LEARNING_RESULTS names."""
    if RESULTS is not None:
        path = Path(RESULTS)
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {str(seed): result}) + "\n")


@pytest.mark.learning
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [int(seed) for seed in SEEDS])
def test_catch_is_solved_from_pixels_within_ten_minutes(tmp_path, capsys, seed):
    started_s = time.monotonic()
    train_local(catch_config(seed), tmp_path)
    training_s = time.monotonic() - started_s
    episodes = evaluate_run(
        tmp_path, episodes=EVALUATION_EPISODES, mode="greedy", video=None, seed=seed
    )
    mean_return = np.mean([episode.episode_return for episode in episodes]).item()
    curve = learning_curve(tmp_path)
    write_result(seed, curve=curve, evaluation_return=mean_return, training_s=training_s)
    shown = "  ".join(f"{step:,}: {mean:.1f}" for step, mean in curve[WINDOW - 1 :: WINDOW])
    with capsys.disabled():
        print(f"\nseed {seed}: {mean_return:.2f} greedy after {training_s:.0f} s; {shown}")  # noqa: T201
    assert mean_return >= WANTED_RETURN
    assert training_s < 60 * MINUTES
