"""What a run takes of a node, and which nodes it avoids."""

import logging
from dataclasses import replace

import pytest

from dreamer_core.config import Config
from dreamer_core.config_learner import LearnerConfig
from services.sweep.plan import (
    RunKey,
)
from services.sweep.resources import (
    NodeRecord,
    choose_gpus,
    has_room,
    require_room,
    with_device,
    with_processes,
)
from tests.services.sweep.parts import DEBUG, PONG_1, node


def test_runs_get_a_gpu_if_the_cluster_has_any_and_nobody_asked_for_less(caplog):
    with_gpu = [node(CPU=8.0), node(CPU=8.0, GPU=2.0)]
    assert choose_gpus(None, "auto", with_gpu) == 1
    assert choose_gpus(None, "cpu", with_gpu) == 0
    assert choose_gpus(0.25, "auto", with_gpu) == 0.25
    assert not caplog.records
    assert choose_gpus(None, "auto", [node(CPU=8.0), node(is_alive=False, GPU=1.0)]) == 0
    assert "--gpus-per-run" in caplog.text


def test_no_run_takes_a_gpu_that_it_was_not_given_or_does_without_one_that_it_was(caplog):
    def device(name, num_gpus):
        config = replace(DEBUG, learner=replace(DEBUG.learner, device=name))
        return with_device(config, num_gpus).learner.device

    assert device("auto", 0.25) == "cuda"
    assert device("auto", 0) == device("cpu", 0) == "cpu"
    with pytest.raises(ValueError, match=r"learner.device=cuda.*--gpus-per-run"):
        device("cuda", 0)
    with caplog.at_level(logging.WARNING):
        assert device("cpu", 0.5) == "cpu"
    assert "does not use" in caplog.text


def test_runs_that_no_node_could_hold_are_refused_with_what_there_is():
    nodes = [node(name="small", CPU=2.0), node(name="large", CPU=1.0, GPU=1.0)]
    assert has_room(nodes, num_cpus=1, num_gpus=1)
    with pytest.raises(ValueError, match=r"2 CPUs and 1 GPUs.*small 2.*large 1.*--wait-for-nodes"):
        require_room(nodes, num_cpus=2, num_gpus=1)


def test_a_run_goes_back_to_where_it_failed_when_no_other_node_is_left():
    record = NodeRecord(num_cpus=1, num_gpus=1)
    first, second = node(name="a", CPU=1.0, GPU=1.0), node(name="b", CPU=1.0, GPU=1.0)
    small = node(name="small", CPU=1.0)
    record.add_failure(PONG_1, "a", "a", [first, second, small])
    assert record.avoided_by(PONG_1, [first, second, small]) == ("a",)
    assert record.avoided_by(RunKey("pong", 0), [first, second]) == ()
    assert record.avoided_by(PONG_1, [first, {**second, "Alive": False}, small]) == ()
    record.add_failure(PONG_1, "b", "b", [first, second])
    assert record.avoided_by(PONG_1, [first, second]) == ("b",), "the one of its last try"


def test_a_run_that_is_done_clears_its_node_and_a_blind_node_stays_out():
    record, nodes = NodeRecord(num_cpus=1, num_gpus=0), [node(name=n, CPU=1.0) for n in "ab"]
    for seed in range(4):
        record.add_failure(RunKey("pong", seed), "a", "a", nodes)
        if seed == 1:
            record.add_done("a")
    assert record.avoided_by(RunKey("pong", 9), nodes) == ()
    assert record.add_blind("a") and not record.add_blind("a")
    assert record.avoided_by(RunKey("pong", 9), nodes[:1]) == ("a",)
    assert record.has_room(nodes) and not record.has_room(nodes[:1])


@pytest.mark.parametrize(
    ("num_cpus", "threads", "wanted", "given"),
    [(1.0, 1, 2, 1), (2.0, 1, 2, 2), (0.5, 1, 2, 1), (8.0, 2, 3, 3), (4.0, 2, 3, 2)],
)
def test_a_run_has_as_many_processes_as_it_has_cpus_for(num_cpus, threads, wanted, given):
    learner = LearnerConfig(num_threads=threads, num_processes=wanted)
    config = with_processes(replace(Config(), learner=learner), num_cpus)
    assert config.learner.num_processes == given
