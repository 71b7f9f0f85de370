"""Hosts lose power and cables are cut: the run goes on, and nothing is counted twice."""

import time

import pytest

from dreamer_core.envs.suites import environment_spec, make_env
from dreamer_core.replay.replay import StaleIncarnation, open_replay
from dreamer_core.run.rollout import Rollout
from dreamer_core.storage.run_directory import RunPaths, read_config
from tests.cluster.hosted_run import HostedRun
from tests.cluster.hosts import BLOCK, hosts, join_ray_until_sigterm, start_ray
from tests.runs import (
    CPU,
    NO_EVALUATION,
    RATIO,
    checkpoint_counts,
    counted,
    due,
    restarts,
    stored_policy_steps,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

COLLECTOR = "ray::Collector"
PONG = ("debug", "--env.task", "pong", *CPU)
RECOVERED_WITHIN_S = 60.0
"""From silence to a new collector: 6 s on two idle cores. Had Ray not given the host up, the limit
for the collector's work alone would find it out, after 120 s."""


def services_on(host):
    names = ("Collector", "Evaluator", "Learner", "ReplayServer")
    return {name for name in names if host.runs(f"ray::{name}")}


def collector_is_replaced(run):
    """Waits for it, and returns the seconds that it took."""
    return run.wait_for("dreamer_restarts_total", "collector")


def assert_nothing_lost_or_counted_twice(run, steps, gradient_steps):
    assert checkpoint_counts(run.run_dir) == (steps, gradient_steps)
    assert stored_policy_steps(run.run_dir) == (steps, steps)
    logged = counted(run.run_dir, "dreamer_gradient_steps_total")
    assert logged == list(range(1, gradient_steps + 1))
    assert restarts(run.run_dir) == {"collector": 1}


# The collector's host loses power

OFF_STEPS = 800


@pytest.fixture(scope="module")
def powered_off(directory):
    """(run, services of each host before, seconds without a collector, exit code, output)."""
    with hosts(directory / "power", 3) as (head, player, judge):
        address = start_ray([head, player, judge], [None, "collector", "evaluator"])
        run = HostedRun(head, address, *PONG, "--steps", str(OFF_STEPS),
                        "--env.time-limit-steps", "80",
                        "--evaluation.interval-frames", "200")  # fmt: skip
        run.wait_until(lambda: judge.runs("ray::Evaluator"))
        places = [services_on(host) for host in (head, player, judge)]
        player.power_off()
        silent_s = collector_is_replaced(run)
        run.wait_until(lambda: head.runs(COLLECTOR) or judge.runs(COLLECTOR))
        yield run, places, silent_s, run.finish(), run.output


def test_services_start_by_the_role_of_a_host_or_beside_the_run_directory(powered_off):
    assert powered_off[1] == [{"Learner", "ReplayServer"}, {"Collector"}, {"Evaluator"}]


def test_a_run_goes_on_without_the_only_host_of_its_role(powered_off):
    run, _, silent_s, exit_code, output = powered_off
    assert exit_code == 0, output
    assert silent_s < RECOVERED_WITHIN_S
    assert "A service was lost" in (run.run_dir / "supervisor.log").read_text()


def test_the_counts_are_exact_in_spite_of_the_power_cut(powered_off):
    assert_nothing_lost_or_counted_twice(powered_off[0], OFF_STEPS, due(OFF_STEPS))


# The learner's host is drained

DRAINED_STEPS = 600


@pytest.fixture(scope="module")
def drained(directory):
    """(run, exit codes of the run and of Ray on the host that was drained)."""
    with hosts(directory / "drain", 2) as (head, card):
        address = start_ray([head], [None])
        ray = join_ray_until_sigterm(card, address, "learner")
        run = HostedRun(head, address, *PONG, *NO_EVALUATION, "--steps", str(DRAINED_STEPS),
                        *("--schedule.report-interval-gradient-steps", "1"),
                        *("--runtime.await-roles", "learner", "--runtime.is-run-dir-shared"),
                        run_dir=directory / "drain" / "shared")  # fmt: skip
        run.wait_for("dreamer_gradient_steps_total", least=10)
        assert "Learner" in services_on(card)
        card.terminate(BLOCK)
        run.wait_until(lambda: "Learner" in services_on(head))
        yield run, run.finish(), ray.wait(200)


def test_a_learner_leaves_a_host_that_is_drained(drained):
    run, exit_code, _ = drained
    assert exit_code == 0, run.output
    assert "what it did is saved" in (run.run_dir / "supervisor.log").read_text()


def test_no_gradient_step_is_lost_with_a_host_that_is_drained(drained):
    run, gradient_steps = drained[0], due(DRAINED_STEPS)
    assert checkpoint_counts(run.run_dir) == (DRAINED_STEPS, gradient_steps)
    assert stored_policy_steps(run.run_dir) == (DRAINED_STEPS, DRAINED_STEPS)
    logged = counted(run.run_dir, "dreamer_gradient_steps_total")
    assert logged == list(range(1, gradient_steps + 1))


# The cable of the collector's host is cut and healed

CUT_STEPS = 2400
BLIP_S = 1.0


@pytest.fixture(scope="module")
def cut(directory):
    """(run, restarts after a short cut, seconds without a collector, hosts with one, exit)."""
    with hosts(directory / "cable", 2) as (head, player):
        address = start_ray([head, player], [None, "collector"])
        run = HostedRun(head, address, *PONG, *NO_EVALUATION, "--steps", str(CUT_STEPS))
        run.wait_for("dreamer_gradient_steps_total", least=5)
        run.wait_for("dreamer_policy_steps_total")
        player.cut_cable()
        time.sleep(BLIP_S)
        player.heal_cable()
        samples = run.scrape()
        run.wait_for(
            "dreamer_policy_steps_total", least=samples["dreamer_policy_steps_total",] + 50
        )
        early = restarts(run.run_dir)
        player.cut_cable()
        silent_s = collector_is_replaced(run)
        run.wait_until(lambda: head.runs(COLLECTOR))
        both = [host.runs(COLLECTOR) for host in (head, player)]
        player.heal_cable()
        run.wait_until(lambda: not player.runs(COLLECTOR))
        yield run, early, silent_s, both, run.finish(), run.output


def test_a_cable_cut_for_a_second_costs_no_restart(cut):
    assert cut[1] == {}


def test_a_run_goes_on_beside_a_collector_that_is_cut_off_and_ends_it_once_healed(cut):
    _, _, silent_s, both, exit_code, output = cut
    assert both == [True, True]
    assert silent_s < RECOVERED_WITHIN_S
    assert exit_code == 0, output


def test_the_counts_are_exact_in_spite_of_two_collectors(cut):
    assert_nothing_lost_or_counted_twice(cut[0], CUT_STEPS, due(CUT_STEPS))


def test_what_the_old_collector_brings_late_is_refused(cut):
    run_dir = cut[0].run_dir
    config = read_config(run_dir)
    env = make_env(config.env, seed=0)
    late = Rollout(env, config, incarnation=0).run(10, policy_step=0, weights=None).chunks
    replay = open_replay(RunPaths(run_dir).replay, config.replay, environment_spec(config.env))
    with pytest.raises(StaleIncarnation, match="incarnation 1"):
        replay.insert(late[0])
    assert replay.counts().policy_steps == CUT_STEPS
    replay.close()


# A chunk on its way is lost


def test_a_run_goes_on_when_a_chunk_is_lost_on_its_way_to_the_replay(directory):
    prefill, steps = 1200, 1300
    with hosts(directory / "chunk", 2) as (head, player):
        address = start_ray([head, player], [None, "collector"])
        player.slow_cable(bytes_per_s=300_000)
        run = HostedRun(head, address, *PONG, *NO_EVALUATION, "--steps", str(steps),
                        "--schedule.prefill-policy-steps", str(prefill),
                        "--schedule.collect-policy-steps", "600")  # fmt: skip
        begun = player.sent_bytes()
        run.wait_until(lambda: player.sent_bytes() > begun + 1_000_000)  # 600 images are 2.4 MB
        player.power_off()
        assert collector_is_replaced(run) < RECOVERED_WITHIN_S
        assert run.finish() == 0, run.output
    assert "lost with its node" in (run.run_dir / "supervisor.log").read_text()
    assert_nothing_lost_or_counted_twice(run, steps, (steps - prefill) // RATIO)
