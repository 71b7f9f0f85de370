"""Which node a service may start on, and what it takes there."""

import logging

import pytest

from services.cluster.connection import NoCluster
from services.runtime.placement import (
    ROLE_LABEL,
    actor_options,
    await_roles,
    fits,
    guest_options,
)


def node(name, *, is_alive=True, **resources):
    return {"NodeID": name, "Alive": is_alive, "Resources": resources}


HOME, WITH_GPU = node("home", CPU=2.0), node("other", CPU=8.0, GPU=1.0)
BY_ROLE = {
    "label_selector": {"dreamer-role": "learner"},
    "fallback_strategy": [{"label_selector": {"dreamer-role": "!learner"}}],
}


def options(service, *nodes, is_run_dir_shared=False, device="auto"):
    return actor_options(
        service, nodes, home="home", is_run_dir_shared=is_run_dir_shared, device=device
    )


@pytest.mark.parametrize("service", ["replay", "learner"])
def test_what_uses_the_run_directory_stays_beside_it(service):
    found = options(service, HOME, WITH_GPU)
    assert found["label_selector"] == {"ray.io/node-id": "home"}
    assert "fallback_strategy" not in found


@pytest.mark.parametrize("service", ["collector", "evaluator"])
def test_what_does_not_goes_to_its_role_or_else_anywhere(service):
    found = options(service, HOME)
    assert found["label_selector"] == {"dreamer-role": service}
    assert found["fallback_strategy"] == [{"label_selector": {"dreamer-role": f"!{service}"}}]


@pytest.mark.parametrize("is_run_dir_shared", [False, True])
def test_the_exchange_stays_with_the_supervisor_and_takes_no_cpu(is_run_dir_shared):
    found = options("exchange", HOME, WITH_GPU, is_run_dir_shared=is_run_dir_shared)
    assert found == {"num_cpus": 0, "label_selector": {"ray.io/node-id": "home"}}


def test_a_shared_run_directory_binds_nobody():
    found = options("learner", HOME, WITH_GPU, is_run_dir_shared=True)
    assert found == {"num_cpus": 1, "num_gpus": 1, **BY_ROLE}


def test_the_learner_takes_a_gpu_of_a_node_where_it_may_be_and_says_if_it_cannot(caplog):
    assert options("learner", node("home", CPU=2.0, GPU=1.0))["num_gpus"] == 1
    assert options("learner", node("home", CPU=2.0, GPU=1.0), device="cpu")["num_gpus"] == 0
    assert options("learner", HOME, node("gone", is_alive=False, GPU=1.0))["num_gpus"] == 0
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert options("learner", HOME, WITH_GPU)["num_gpus"] == 0
    assert "not on the run directory's node" in caplog.text


def test_a_home_without_a_cpu_for_the_learner_is_refused():
    with pytest.raises(ValueError, match=r"--num-cpus 1 or more.*--runtime.is-run-dir-shared"):
        options("learner", node("home"), WITH_GPU)


def test_a_home_that_is_gone_is_no_bad_input_but_a_failure_which_may_be_tried_again():
    with pytest.raises(NoCluster, match="the same command, which resumes the run"):
        options("learner", node("home", is_alive=False), WITH_GPU)


def test_evaluators_of_another_job_go_to_their_role_or_else_stay_at_home():
    assert guest_options("home") == {
        "num_cpus": 0,
        "label_selector": {"dreamer-role": "evaluator"},
        "fallback_strategy": [{"label_selector": {"ray.io/node-id": "home"}}],
    }


def test_the_start_waits_for_nodes_of_the_roles_that_are_named(caplog):
    caplog.set_level("INFO")
    learner = {"Alive": True, "Labels": {ROLE_LABEL: "learner"}}
    dead = {"Alive": False, "Labels": {ROLE_LABEL: "collector"}}
    alive = {"Alive": True, "Labels": {ROLE_LABEL: "collector"}}
    seen = iter([[learner, {"Alive": True}], [learner, dead], [learner, alive]])
    await_roles(["collector"], lambda: next(seen))
    assert next(seen, None) is None
    assert caplog.messages == ["Waiting for a node of the role collector"]
    await_roles(["collector"], lambda: [learner], patience_s=0.0)
    assert "Started without it" in caplog.text
    await_roles([], list)


@pytest.mark.parametrize(
    ("free", "do_fit"),
    [
        ([{"CPU": 2.0, "GPU": 1.0}], True),
        ([{"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0}], True),
        ([{"CPU": 2.0}], False),  # what has a GPU keeps it rather than go on without
        ([{"CPU": 1.0, "GPU": 1.0}], False),  # each alone would
        ([{"GPU": 1.0}, {"CPU": 2.0}], False),
        ([], False),
    ],
)
def test_services_move_where_there_is_room_for_all_at_once(free, do_fit):
    wanted = [{"num_cpus": 1}, {"num_cpus": 1, "num_gpus": 1}, {"num_cpus": 0}]
    assert fits(wanted, free) is do_fit
