"""Streams of random numbers: their words and keys are those of every run directory there is."""

import subprocess
import sys
from collections import Counter

from dreamer_core.seeds import (
    ATTACHED_INCARNATION,
    EVALUATOR_INCARNATION,
    HELD_OUT_INCARNATION,
    Stream,
    env_seed,
)

WORDS = {
    "WEIGHTS": 0,
    "TRAIN": 1,
    "PICTURE": 2,
    "ACT": 10,
    "EVALUATE": 11,
    "ENV": 12,
    "DREAM": 13,
    "ANALYSIS": 14,
    "STICKY_ACTIONS": 1,
}


def test_each_stream_has_the_word_by_which_runs_were_started():
    assert {stream.name: stream.word for stream in Stream} == WORDS


def test_two_streams_of_the_same_seed_never_have_the_same_word():
    runs = Counter(stream.word for stream in Stream if stream is not Stream.STICKY_ACTIONS)
    assert set(runs.values()) == {1}
    assert Stream.STICKY_ACTIONS.key.startswith("seed of the environment")


def test_the_environment_of_each_life_has_its_own_seed():
    seeds = {env_seed(seed, life) for seed in range(20) for life in range(20)}
    assert len(seeds) == 400 and min(seeds) >= 0 and max(seeds) < 2**31
    assert env_seed(3, 4) == env_seed(3, 4)


def test_the_seeds_of_environments_stay_as_they_were():
    assert [env_seed(0, 0), env_seed(3, 4), env_seed(7, EVALUATOR_INCARNATION)] == [
        1998536827,
        1360390913,
        1439375717,
    ]


def test_no_evaluator_plays_the_environment_of_a_collector():
    assert 10**6 < EVALUATOR_INCARNATION < ATTACHED_INCARNATION < HELD_OUT_INCARNATION


def test_seeds_need_no_torch():
    code = "import sys, dreamer_core.seeds; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
