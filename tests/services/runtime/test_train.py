"""Whole runs through the services as a user starts them: real Ray, processes of their own."""

import time

import pytest

from dreamer_core.report.metrics import METRICS
from dreamer_core.report.read import read_jsonl
from dreamer_core.storage import checkpoint
from dreamer_core.storage.store import LocalStore
from tests.runs import (
    CATCH,
    COLLECT_STEPS,
    NO_EVALUATION,
    OFTEN,
    PREFILL,
    RATIO,
    TITLES,
    Run,
    assert_one_paragraph,
    checkpoint_counts,
    counted,
    due,
    losses,
    restarts,
    stored_policy_steps,
)
from tests.services.failing_env import CALM_STEPS

# Lockstep


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory):
    """Pong in lockstep, with the evaluator beside it, and the same in one process."""
    root = tmp_path_factory.mktemp("lockstep")
    options = ("--steps", "110", "--env.time-limit-steps", "35", "--seed", "3")
    services = Run(
        "train", root / "train", *options, "--lockstep", "--evaluator.interval-policy-steps", "40"
    )
    assert services.finish() == 0, services.stderr
    local = Run("local", root / "local", *options)
    assert local.finish() == 0, local.stderr
    return services, local


def test_in_lockstep_the_services_compute_the_losses_of_one_process_bit_for_bit(lockstep):
    services, local = (losses(run.run_dir) for run in lockstep)
    assert len(services) == due(110)
    assert services == local


def test_in_lockstep_the_services_store_the_rows_of_one_process(lockstep):
    first, second = (
        [path.read_bytes() for path in sorted((run.run_dir / "replay").iterdir())]
        for run in lockstep
    )
    assert first == second


# A run that is interrupted and resumed

FIRST_STEPS, ALL_STEPS = 800, 900


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run on Catch that Ctrl-C stopped: (run, exit code, last scrape, its processes then)."""
    run_dir = tmp_path_factory.mktemp("interrupted") / "run"
    run = Run("train", run_dir, *CATCH, "--steps", str(FIRST_STEPS))
    run.wait_for("dreamer_gradient_steps_total", least=5)
    samples = run.wait_for("dreamer_policy_steps_total", least=PREFILL + 1)
    processes = run.processes()
    run.interrupt()
    return run, run.finish(), samples, processes


@pytest.fixture(scope="module")
def stopped(interrupted):
    """The counts that the interrupted run left: checkpoint, replay twice, log."""
    run_dir = interrupted[0].run_dir
    last = read_jsonl(run_dir / "metrics.jsonl")[-1]
    logged = last.policy_step, last.gradient_step
    return checkpoint_counts(run_dir), stored_policy_steps(run_dir), logged


@pytest.fixture(scope="module")
def resumed(interrupted, stopped):
    """The same run, started again with more steps, to its end."""
    run = Run("train", interrupted[0].run_dir, *CATCH, "--steps", str(ALL_STEPS),
              "--evaluator.interval-policy-steps", "200")  # fmt: skip
    return run, run.finish()


def test_prometheus_shows_a_running_run(interrupted):
    samples = interrupted[2]
    counters = {name for name, m in METRICS.items() if m.kind == "counter" and not m.labels}
    assert counters <= {name for name, *_ in samples}
    policy_steps = samples["dreamer_policy_steps_total",]
    assert PREFILL < policy_steps < FIRST_STEPS
    assert samples["dreamer_env_frames_total",] == policy_steps  # action repeat 1
    assert 5 <= samples["dreamer_gradient_steps_total",] <= due(FIRST_STEPS)
    assert samples["dreamer_gradient_step_seconds_count",] >= 5
    assert samples["dreamer_episodes_total",] >= 1


def test_ctrl_c_stops_a_run_with_everything_collected_on_disk(interrupted, stopped):
    run, exit_code, *_ = interrupted
    assert exit_code == 130 and "Stopped" in run.stdout
    (policy_steps, gradient_steps), stored, logged = stopped
    assert 0 < policy_steps < FIRST_STEPS and 0 < gradient_steps <= due(policy_steps)
    assert stored == (policy_steps, policy_steps)
    assert logged == (policy_steps, gradient_steps)
    assert f"{policy_steps:,} policy steps, {gradient_steps:,} gradient steps" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_a_resumed_run_takes_no_step_twice_and_ends_with_the_exact_ratio(resumed, stopped):
    run, exit_code = resumed
    assert exit_code == 0, run.stderr
    assert checkpoint_counts(run.run_dir) == (ALL_STEPS, due(ALL_STEPS))
    assert stored_policy_steps(run.run_dir) == (ALL_STEPS, ALL_STEPS)
    steps = counted(run.run_dir, "dreamer_gradient_steps_total")
    assert steps == list(range(1, due(ALL_STEPS) + 1))
    assert restarts(run.run_dir) == {}


def test_evaluations_are_reported_with_their_mode_and_the_last_has_the_final_weights(resumed):
    lines = read_jsonl(resumed[0].run_dir / "metrics.jsonl")
    evaluations = [x for x in lines if "dreamer_evaluation_return" in x.values]
    assert evaluations and {x.labels["mode"] for x in evaluations} == {"greedy"}
    assert evaluations[-1].labels["weights_version"] == due(ALL_STEPS)
    assert all(-5 <= x.values["dreamer_evaluation_return"] <= 5 for x in evaluations)


def test_what_a_run_leaves_is_named_and_there(resumed):
    run, _ = resumed
    for name in ("checkpoints", "replay", "tensorboard", "metrics.jsonl", "learning_curve.png",
                 "open_loop.png"):  # fmt: skip
        assert str(run.run_dir / name) in run.stdout
        assert (run.run_dir / name).exists()
    assert "Started at gradient step" in (run.run_dir / "supervisor.log").read_text()


def test_no_process_of_a_run_outlives_it(interrupted, resumed):
    titles = " ".join(interrupted[3].values())
    assert "raylet" in titles and all(title in titles for title in TITLES.values())
    deadline_s = time.monotonic() + 10
    while (left := {**interrupted[0].processes(), **resumed[0].processes()}) and (
        time.monotonic() < deadline_s
    ):
        time.sleep(0.2)
    assert left == {}


# Faults

KILLED_STEPS = 1000


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run of which each service was killed in turn: (run, exit code, restarts as scraped)."""
    run_dir = tmp_path_factory.mktemp("killed") / "run"
    run = Run("train", run_dir, *CATCH, *NO_EVALUATION, *OFTEN, "--steps", str(KILLED_STEPS))
    latest = run_dir / "checkpoints" / "LATEST"
    run.wait_until(lambda: latest.exists() and int(latest.read_text()) > 1)
    for service in TITLES:
        run.kill(service)
        samples = run.wait_for("dreamer_restarts_total", service)
        trained = samples["dreamer_gradient_steps_total",]
        samples = run.wait_for("dreamer_gradient_steps_total", least=trained + 5)
    return run, run.finish(), samples


def test_a_run_goes_on_after_a_kill_of_each_of_its_services(killed):
    run, exit_code, samples = killed
    assert exit_code == 0, run.stderr
    again = {service: samples["dreamer_restarts_total", service] for service in TITLES}
    # The replay takes the collector along, whose episode went on without what was lost.
    assert again == {"learner": 1, "collector": 2, "replay": 1} == restarts(run.run_dir)


def test_the_counts_are_exact_in_spite_of_the_kills(killed):
    run_dir = killed[0].run_dir
    assert checkpoint_counts(run_dir) == (KILLED_STEPS, due(KILLED_STEPS))
    assert stored_policy_steps(run_dir) == (KILLED_STEPS, KILLED_STEPS)
    assert counted(run_dir, "dreamer_policy_steps_total")[-1] == KILLED_STEPS
    first_steps = [n for n in counted(run_dir, "dreamer_gradient_steps_total") if n == 1]
    assert len(first_steps) == 1  # the second learner began at the checkpoint of the first


def test_what_the_collector_brings_while_the_learner_dies_is_stored(tmp_path):
    prefill, steps = 12_000, 12_020  # long enough to meet it at work on a fast machine
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", str(steps),
              "--schedule.prefill-policy-steps", str(prefill),
              "--replay.capacity-steps", "20000")  # fmt: skip
    run.wait_for("dreamer_policy_steps_total", least=100)  # the collector is never idle now
    run.kill("learner")
    assert run.finish() == 0, run.stderr
    assert restarts(run.run_dir) == {"learner": 1}
    assert checkpoint_counts(run.run_dir) == (steps, (steps - prefill) // RATIO)
    assert stored_policy_steps(run.run_dir) == (steps, steps)


def test_an_environment_that_crashes_is_replaced_and_its_call_taken_again(tmp_path):
    steps = 2 * CALM_STEPS - 2 * COLLECT_STEPS
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, "--steps", str(steps),
              "--env.task", "tests.services.failing_env:make_failing_env")  # fmt: skip
    assert run.finish() == 0, run.stderr
    assert restarts(run.run_dir) == {"collector": 1}
    assert "licence ran out" in (run.run_dir / "supervisor.log").read_text()
    assert checkpoint_counts(run.run_dir) == (steps, due(steps))
    assert stored_policy_steps(run.run_dir) == (steps, steps)


def test_an_environment_that_always_crashes_ends_the_run_with_its_own_words(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION,
              "--env.task", "tests.services.failing_env:make_broken_env",
              "--runtime.max-fruitless-restarts", "1")  # fmt: skip
    assert run.finish() == 1
    assert_one_paragraph(run, "without progress", "licence ran out", "start the same command")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    run = Run("train", tmp_path / "run", *CATCH, *NO_EVALUATION, *OFTEN, "--steps", "400",
              "--env.task", "tests.core.counting_env:make_exploding_env",
              "--world-model.reward-transform", "identity")  # fmt: skip
    assert run.finish() == 1
    assert_one_paragraph(run, "world_model loss at gradient step", "reward is")
    policy_step, gradient_step = checkpoint_counts(run.run_dir)
    assert gradient_step <= due(policy_step)
    found = checkpoint.load(LocalStore(run.run_dir / "checkpoints"))
    assert all(bool(x.isfinite().all()) for x in found.tensors["world_model"].values())
    assert not run.processes()


@pytest.fixture(scope="module")
def evaluating(tmp_path_factory):
    """A run beside an evaluation without end: the collector was killed, then Ctrl-C at its end."""
    run_dir = tmp_path_factory.mktemp("evaluating") / "run"
    endless = ("--evaluator.interval-policy-steps", "20", "--evaluator.episodes", "1000000")
    run = Run("train", run_dir, *CATCH, *OFTEN, *endless, "--steps", str(FIRST_STEPS))
    run.wait_until(lambda: any("ray::Evaluator" in line for line in run.processes().values()))
    run.kill("collector")
    restarted = run.wait_for("dreamer_restarts_total", "collector")
    trained = due(FIRST_STEPS)
    latest = run_dir / "checkpoints" / "LATEST"
    run.wait_until(lambda: latest.exists() and int(latest.read_text()) == trained)
    run.wait_until((run_dir / "open_loop.png").exists)
    run.interrupt()
    return run, run.finish(timeout_s=30), restarted


def test_a_service_is_replaced_without_waiting_for_an_evaluation(evaluating):
    counts = {key[1]: n for key, n in evaluating[2].items() if key[0] == "dreamer_restarts_total"}
    assert {service for service, count in counts.items() if count} == {"collector"}


def test_ctrl_c_gives_up_the_last_evaluation_once_the_run_is_saved(evaluating):
    run, exit_code, _ = evaluating
    assert exit_code == 130
    assert checkpoint_counts(run.run_dir) == (FIRST_STEPS, due(FIRST_STEPS))
