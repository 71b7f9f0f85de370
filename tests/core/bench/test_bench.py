"""Benchmarks measure what they say: floors by hand, spread, and results that can be read back."""

import dataclasses
import json

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer_core.bench import measure
from dreamer_core.bench.env import bench_env
from dreamer_core.bench.flops import update_flops
from dreamer_core.bench.learner import bench_learner, random_batch
from dreamer_core.bench.memory import ReplayMemory, replay_memory
from dreamer_core.bench.policy import bench_policy
from dreamer_core.bench.replay import bench_replay, fill_replay
from dreamer_core.config import ReplayConfig
from dreamer_core.presets import preset
from dreamer_core.replay.replay import open_replay
from dreamer_core.types import EnvSpec
from tests.core.small import VECTOR, small

SPEC = EnvSpec(image_shape=(64, 64, 1), action_size=18, is_discrete=True, action_names=None)

# By hand for 50 x 50 rows at the Atari size, in GFLOP.
ATARI_GFLOP = {
    "encoder": 454,
    "decoder": 765,
    "observe": 85,
    "heads": 34,
    "imagination": 548,
    "slow_critic": 90,
    "actor": 193,
    "critic": 206,
}


@pytest.fixture(autouse=True)
def quick_floors(monkeypatch):
    """What the machine can do at best is found in passing."""
    plain = measure.measure

    def passing(work, *, seconds, **synchronize):
        return plain(work, seconds=min(seconds, 0.01), **synchronize)

    monkeypatch.setattr(measure, "_MATRIX_SIZE", 64)
    monkeypatch.setattr(measure, "measure", passing)


@pytest.fixture
def no_memory(monkeypatch):
    """The memory of a replay is not measured, which takes a process."""
    found = ReplayMemory(started_bytes=1, opened_bytes=2, sampled_bytes=3)
    monkeypatch.setattr("dreamer_core.bench.replay.replay_memory", lambda *_, **__: found)


def test_the_arithmetic_of_an_atari_update_is_what_was_worked_out_by_hand():
    flops = update_flops(preset("atari"), SPEC)
    assert {name: round(value / 1e9) for name, value in flops.items()} == pytest.approx(
        ATARI_GFLOP, abs=1.5
    )


@pytest.mark.parametrize("field", [{"latent": "gaussian"}, {"has_discount_head": False}])
def test_a_smaller_model_needs_less(field):
    whole = update_flops(small(), SPEC)
    less = update_flops(small(world_model=field), SPEC)
    assert sum(less.values()) < sum(whole.values())


def test_a_vector_alone_takes_its_dense_layers_in_place_of_convolutions():
    config = small()
    sizes, rows = config.world_model, 3 * 8
    feat = sizes.deter + sizes.stoch * sizes.classes
    flops = update_flops(config, VECTOR)  # 5 numbers, 2 layers of 8 units
    assert flops["encoder"] == 2 * rows * (3 * (5 * 8 + 8 * 8) - 5 * 8)
    assert flops["decoder"] == 6 * rows * (feat * 8 + 8 * 8 + 8 * 5)


@pytest.mark.usefixtures("no_memory")
def test_learner_and_replay_are_measured_where_a_vector_alone_is_seen():
    cart_pole = {"suite": "gymnasium", "task": "CartPole-v1", "action_repeat": 1}
    config = small(env=cart_pole)
    learner = bench_learner(config, seconds=0.01)
    replay = bench_replay(config, seconds=0.01, rows=(500,))
    assert min(learner.ratio_to_floor, replay.ratio_to_floor) > 0


def test_samples_leave_the_warm_up_out_and_are_enough():
    calls = []
    samples = measure.measure(lambda: calls.append(None), seconds=0.0)
    assert len(samples) == 5
    assert len(calls) == 6


def test_the_ratio_is_the_median_over_the_floor():
    spread = measure.summary([1.0, 2.0, 3.0, 4.0, 10.0])
    result = measure.Measurement(benchmark="x", unit="y", floor_s=0.5, **spread)
    assert result.median_s == 3
    assert result.ratio_to_floor == 6
    assert measure.Measurement(benchmark="x", unit="y", **spread).ratio_to_floor is None


def test_a_result_says_on_what_it_was_measured():
    result = measure.Measurement(benchmark="x", unit="y", **measure.summary([1.0]))
    found = json.loads(json.dumps(result.to_json()))
    assert found["median_s"] == 1
    assert {"hardware", "versions", "commit", "measured_at", "ratio_to_floor"} <= set(found)
    assert found["hardware"]["cores"] >= 1


class Operators(TorchDispatchMode):
    """A clock that says how many operators have run, whatever else this machine has to do."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_the_components_of_a_step_add_up_to_it(monkeypatch):
    with Operators() as clock:
        monkeypatch.setattr("time.perf_counter", lambda: clock.count)
        result = bench_learner(small(), seconds=0.0)
    parts = dict(result.details["seconds_by_component"])
    rest = parts.pop("backward passes and the rest")
    assert min(parts.values()) > 0
    assert rest > 0  # else the parts would overlap
    assert parts["decoder forward"] < parts["world model loss forward, decoder included"]
    assert result.details["execution"] == "CPU, float32, eager"


def test_a_filled_replay_holds_the_rows_asked_for(tmp_path):
    config = small()
    fill_replay(tmp_path, config.replay, SPEC, rows=2_000)
    replay = open_replay(tmp_path, config.replay, SPEC)
    assert replay.counts().stored_steps >= 1_900  # rows that begin an episode are no steps
    assert replay.sample(0, 0).image.any()
    replay.close()


def test_two_million_rows_stay_below_the_promised_memory(tmp_path):
    rows, spec = 200_000, dataclasses.replace(SPEC, image_shape=(1, 1, 1))  # images are mapped
    fill_replay(tmp_path, ReplayConfig(), spec, rows)
    memory = replay_memory(tmp_path, ReplayConfig(), spec, num_batches=5)
    by_row = (memory.sampled_bytes - memory.started_bytes) / rows
    assert by_row > 1 and memory.started_bytes + 2_000_000 * by_row < 200e6


def test_two_million_grayscale_rows_stay_below_the_promised_disk_space(monkeypatch):
    monkeypatch.setattr("dreamer_core.bench.replay._MAX_IMAGES", 1024)
    result = bench_replay(small("debug"), seconds=0.01, rows=(10_000,))
    measured = result.details["by_rows"]["10000"]
    assert measured["disk_bytes"] < 0.5e9 / 200
    assert 4_096 * 10_000 < measured["uncompressed"]["disk_bytes"] < 8.6e9 / 200
    assert 0 < measured["memory"]["sampled_bytes"] < 200e6


@pytest.mark.usefixtures("no_memory")
def test_policy_environment_and_replay_are_measured():
    config = small()
    for result in (
        bench_policy(config, seconds=0.01),
        bench_env(config, seconds=0.01),
        bench_replay(config, seconds=0.01, rows=(500, 1_000)),
    ):
        assert 0 < result.p10_s <= result.median_s <= result.p90_s and result.median_s < 1
    assert set(result.details["by_rows"]) == {"500", "1000"}


def test_a_random_batch_has_the_shapes_of_a_real_one():
    config = small()
    batch = random_batch(config, SPEC)
    assert batch.image.shape == (3, 8, 64, 64, 1)
    assert np.array_equal(batch.prev_action.sum(-1), np.ones((3, 8)))
