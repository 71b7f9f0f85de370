"""The small agent learns the suite from pixels alone, in minutes on two CPU cores."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer_core.presets import preset
from dreamer_core.report.read import read_jsonl
from dreamer_core.run.evaluation import evaluate_run
from dreamer_core.run.local import train_local
from tests.learning.tasks import TASKS

SEEDS = os.environ.get("DREAMER_LEARNING_SEEDS", "0").split()
NAMES = os.environ.get("DREAMER_LEARNING_TASKS", "").split()
CHOSEN = [task for task in TASKS if not NAMES or task.name in NAMES]
UNKNOWN = set(NAMES) - {task.name for task in TASKS}
assert not UNKNOWN, (
    f"DREAMER_LEARNING_TASKS: wanted some of {' '.join(task.name for task in TASKS)}, with spaces "
    f"between, and got {' '.join(sorted(UNKNOWN))}"
)
RESULTS = os.environ.get("DREAMER_LEARNING_RESULTS")
UNTIL_LEARNED = bool(os.environ.get("DREAMER_LEARNING_UNTIL_LEARNED"))
"""Ends as soon as the wanted score is reached, and trains in one process: for continuous
integration, which has no time for more, and another task for the other core. A score that was
waited for is no result to publish."""
EVALUATION_EPISODES, WINDOW = 20, 20
STRETCH_STEPS = 4_000
MINUTES = 10


def config_of(task, seed):
    """What `dreamer local gymnasium_tiny --env.task TASK` trains; see UNTIL_LEARNED."""
    config = preset("gymnasium_tiny")
    env = replace(config.env, task=task.env_task)
    learner = replace(config.learner, num_processes=1) if UNTIL_LEARNED else config.learner
    return replace(config, seed=seed, env=env, learner=learner, steps=task.steps)


def learning_curve(run_dir):
    """(policy step, mean return of the last 20 training episodes) of every episode."""
    lines = read_jsonl(run_dir / "metrics.jsonl")
    episodes = [episode for line in lines for episode in line.episodes]
    returns = [episode.episode_return for episode in episodes]
    means = [np.mean(returns[max(0, i - WINDOW) : i]).item() for i in range(1, len(returns) + 1)]
    return [(episode.policy_step, mean) for episode, mean in zip(episodes, means, strict=True)]


def write_result(task, seed, **result):
    """Adds this seed's result to the JSON file that DREAMER_LEARNING_RESULTS names."""
    if RESULTS is not None:
        path = Path(RESULTS)
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {f"{task.name} {seed}": result}) + "\n")


def processor_s():
    """Processor time of this process and of those that it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.mark.learning
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", [int(seed) for seed in SEEDS])
@pytest.mark.parametrize("task", CHOSEN, ids=lambda task: task.name)
def test_a_task_is_learned_from_pixels_within_ten_minutes(tmp_path, capsys, task, seed):
    stretch = STRETCH_STEPS if UNTIL_LEARNED else task.steps
    training_s, training_cpu_s, mean_return = 0.0, 0.0, -np.inf
    for steps in range(stretch, task.steps + 1, stretch):
        started_s, started_cpu_s = time.monotonic(), processor_s()
        train_local(replace(config_of(task, seed), steps=steps), tmp_path)
        training_s += time.monotonic() - started_s
        training_cpu_s += processor_s() - started_cpu_s
        episodes = evaluate_run(
            tmp_path, episodes=EVALUATION_EPISODES, mode="greedy", video=None, seed=seed
        )
        mean_return = np.mean([episode.episode_return for episode in episodes]).item()
        if task.score(mean_return) >= task.wanted_score:
            break
    curve, score = learning_curve(tmp_path), task.score(mean_return)
    write_result(
        task, seed, curve=curve, evaluation_return=mean_return, score=score, training_s=training_s
    )
    shown = "  ".join(f"{step:,}: {mean:.1f}" for step, mean in curve[WINDOW - 1 :: WINDOW])
    with capsys.disabled():
        said = (
            f"{task.name}, seed {seed}: {mean_return:.2f} greedy, {score:.0%} of the way from "
            f"random play to the best, after {training_s:.0f} s; {shown}"
        )
        print(f"\n{said}")  # noqa: T201
    assert score >= task.wanted_score
    if not UNTIL_LEARNED:  # which comes when it comes
        assert min(training_s, training_cpu_s) < 60 * MINUTES  # whatever else the machine has to do
