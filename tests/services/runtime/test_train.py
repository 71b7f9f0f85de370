"""Whole runs through the services as a user starts them: real Ray, processes of their own."""

from collections import Counter

import pytest

from dreamer_core.report.metrics import METRICS
from dreamer_core.report.read import read_jsonl
from dreamer_core.storage import checkpoint
from dreamer_core.storage.store import LocalStore
from tests.commands import exit_code_of
from tests.runs import (
    CATCH,
    CPU,
    NO_EVALUATION,
    OFTEN,
    PREFILL,
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


def on(ray_address):
    """Options of a run on a cluster that is there."""
    return "--runtime.ray-address", ray_address


# Lockstep


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory, ray_address):
    """Pong in lockstep, with the evaluator beside it, and the same in one process."""
    root = tmp_path_factory.mktemp("lockstep")
    options = (*CPU, "--steps", "110", "--env.time-limit-steps", "35", "--seed", "3")
    services = Run(
        "train",
        root / "train",
        *options,
        *on(ray_address),
        "--lockstep",
        "--evaluation.interval-frames",
        "160",
        "--evaluation.episode-limit",
        "20",
    )
    assert exit_code_of("local", "debug", "--run-dir", root / "local", *options) == 0
    assert services.finish() == 0, services.stderr
    return root / "train", root / "local"


def test_an_episode_that_is_evaluated_is_cut_off_at_the_limit_of_evaluations(lockstep):
    lines = read_jsonl(lockstep[0] / "metrics.jsonl")
    name = "dreamer_evaluation_length_policy_steps"
    assert {line.values[name] for line in lines if name in line.values} == {20}


def test_in_lockstep_the_services_compute_the_losses_of_one_process_bit_for_bit(lockstep):
    services, local = map(losses, lockstep)
    assert len(services) == due(110)
    assert services == local


def test_in_lockstep_the_services_store_the_rows_of_one_process(lockstep):
    first, second = (
        [path.read_bytes() for path in sorted((run_dir / "replay").iterdir())]
        for run_dir in lockstep
    )
    assert first == second


# A run that is interrupted and resumed

ENDLESS, MORE_STEPS = 100_000, 100


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run on Catch that Ctrl-C stopped: (run, exit code, last scrape, its processes then)."""
    run_dir = tmp_path_factory.mktemp("interrupted") / "run"
    nobody = {"RAY_ADDRESS": "127.0.0.1:1"}  # a cluster that this run was not told to join
    run = Run("train", run_dir, *CATCH, "--steps", str(ENDLESS), **nobody)
    run.wait_for("dreamer_gradient_steps_total", least=5)
    samples = run.wait_until(lambda: whole_scrape(run))
    processes, reachable = run.processes(), run.reachable()
    run.interrupt()
    return run, run.finish(), samples, processes, reachable


def whole_scrape(run):
    """A scrape of a run on Catch between two reports: one may come amid a scrape."""
    samples = run.scrape()
    policy_steps = samples.get(("dreamer_policy_steps_total",), 0.0)
    is_whole = samples.get(("dreamer_env_frames_total",)) == policy_steps  # action repeat 1
    return policy_steps > PREFILL and is_whole and samples


@pytest.fixture(scope="module")
def stopped(interrupted):
    """The counts that the interrupted run left: checkpoint, replay twice, log."""
    run_dir = interrupted[0].run_dir
    last = read_jsonl(run_dir / "metrics.jsonl")[-1]
    logged = last.policy_step, last.gradient_step
    return checkpoint_counts(run_dir), stored_policy_steps(run_dir), logged


@pytest.fixture(scope="module")
def resumed(interrupted, stopped):
    """The same run, started again, and its exit code and steps at its end some steps later."""
    steps = stopped[0][0] + MORE_STEPS
    run = Run(
        "train",
        interrupted[0].run_dir,
        *CATCH,
        "--steps",
        str(steps),
        "--evaluation.interval-frames",
        "100",
    )
    return run, run.finish(), steps


def test_a_run_on_a_lone_machine_listens_on_loopback_alone(interrupted):
    *_, processes, reachable = interrupted
    assert any("raylet" in line for line in processes.values())
    assert not reachable


def test_prometheus_shows_a_running_run(interrupted, stopped):
    samples, ((most_policy_steps, most_gradient_steps), *_) = interrupted[2], stopped
    counters = {name for name, m in METRICS.items() if m.kind == "counter" and not m.labels}
    assert counters <= {name for name, *_ in samples}
    policy_steps = samples["dreamer_policy_steps_total",]
    assert PREFILL < policy_steps <= most_policy_steps
    assert samples["dreamer_env_frames_total",] == policy_steps
    assert 5 <= samples["dreamer_gradient_steps_total",] <= most_gradient_steps
    assert samples["dreamer_gradient_step_seconds_count",] >= 5
    assert samples["dreamer_episodes_total",] >= 1


def test_ctrl_c_stops_a_run_with_everything_collected_on_disk(interrupted, stopped):
    run, exit_code, *_ = interrupted
    assert exit_code == 130 and "Stopped" in run.stdout
    (policy_steps, gradient_steps), stored, logged = stopped
    assert 0 < policy_steps < ENDLESS and 0 < gradient_steps <= due(policy_steps)
    assert stored == (policy_steps, policy_steps)
    assert logged == (policy_steps, gradient_steps)
    assert f"{policy_steps:,} policy steps, {gradient_steps:,} gradient steps" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_a_resumed_run_takes_no_step_twice_and_ends_with_the_exact_ratio(resumed, stopped):
    run, exit_code, steps = resumed
    assert exit_code == 0, run.stderr
    assert checkpoint_counts(run.run_dir) == (steps, due(steps))
    assert stored_policy_steps(run.run_dir) == (steps, steps)
    gradient_steps = counted(run.run_dir, "dreamer_gradient_steps_total")
    assert gradient_steps == list(range(1, due(steps) + 1))
    assert restarts(run.run_dir) == {}


def test_evaluations_are_reported_with_their_mode_and_the_last_has_the_final_weights(resumed):
    lines = read_jsonl(resumed[0].run_dir / "metrics.jsonl")
    evaluations = [x for x in lines if "dreamer_evaluation_return" in x.values]
    assert evaluations and {x.labels["mode"] for x in evaluations} == {"greedy"}
    assert evaluations[-1].labels["weights_version"] == due(resumed[2])
    assert all(-5 <= x.values["dreamer_evaluation_return"] <= 5 for x in evaluations)


def test_what_a_run_leaves_is_named_and_there(resumed):
    run, *_ = resumed
    for name in (
        "checkpoints",
        "replay",
        "tensorboard",
        "metrics.jsonl",
        "learning_curve.png",
        "open_loop.png",
    ):
        assert str(run.run_dir / name) in run.stdout
        assert (run.run_dir / name).exists()
    assert "Started at gradient step" in (run.run_dir / "supervisor.log").read_text()


def test_no_process_of_a_run_outlives_it(interrupted, resumed):
    titles = " ".join(interrupted[3].values())
    assert "raylet" in titles and all(title in titles for title in TITLES.values())
    assert not interrupted[0].survivors() and not resumed[0].survivors()


# Faults


def wait_for_checkpoint(run, least):
    """Waits until the newest checkpoint is of so many gradient steps, or more."""
    latest = run.run_dir / "checkpoints" / "LATEST"
    run.wait_until(lambda: latest.exists() and int(latest.read_text()) >= least)


class Story:
    """A run that loses each of its services, one after the other, beside an endless evaluation.

    The learner dies twice, first while the collector is in the midst of its first call. The
    environment crashes once. Ctrl-C ends the run at its last evaluation, when it is complete. The
    environment is held between the faults, so that the run does not end before the last.
    """

    STEPS = 1000

    def __init__(self, directory):
        self._hold, self._fail = directory / "hold", directory / "fail"
        self._hold.touch()
        self.run = run = Run(
            "train",
            directory / "run",
            *CATCH,
            *OFTEN,
            "--steps",
            str(self.STEPS),
            "--env.task",
            "tests.services.failing_env:make_obedient_env",
            "--evaluation.interval-frames",
            "20",
            "--evaluation.episodes",
            "1000000",
            OBEDIENT_DIR=str(directory),
        )
        log = run.run_dir / "supervisor.log"
        run.wait_until(lambda: log.exists() and "Started at gradient step" in log.read_text())
        run.kill("learner")
        self._goes_on_after("learner", restarts=1)
        wait_for_checkpoint(run, least=2)
        run.kill("learner")
        self._goes_on_after("learner", restarts=2)
        run.wait_until(self._evaluates)
        run.kill("collector")
        self._goes_on_after("collector", restarts=1)
        self._fail.touch()
        self._goes_on_after("collector", restarts=2)
        run.kill("replay")
        self.samples = self._goes_on_after("replay", restarts=1)
        self.was_evaluating = self._evaluates()
        self._hold.unlink()
        wait_for_checkpoint(run, least=due(self.STEPS))
        run.wait_until((run.run_dir / "open_loop.png").exists)
        run.interrupt()
        self.exit_code = run.finish()

    def _evaluates(self):
        return any("ray::Evaluator" in title for title in self.run.processes().values())

    def _goes_on_after(self, service, restarts):
        self._hold.unlink()
        samples = self.run.wait_for("dreamer_restarts_total", service, least=restarts)
        trained = samples.get(("dreamer_gradient_steps_total",), 0.0)
        samples = self.run.wait_for("dreamer_gradient_steps_total", least=trained + 3)
        self._hold.touch()
        return samples


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return Story(tmp_path_factory.mktemp("story"))


def test_a_run_goes_on_after_a_kill_of_each_of_its_services_and_a_crash(story):
    again = {name: story.samples["dreamer_restarts_total", name] for name in TITLES}
    assert again == restarts(story.run.run_dir)
    # The replay takes the collector along if something was on its way to it: the episode went on
    # without what was lost.
    assert again.pop("collector") in (2, 3)
    assert again == {"learner": 2, "replay": 1}


def test_the_counts_are_exact_in_spite_of_the_kills(story):
    run_dir = story.run.run_dir
    assert checkpoint_counts(run_dir) == (story.STEPS, due(story.STEPS))
    assert stored_policy_steps(run_dir) == (story.STEPS, story.STEPS)
    assert counted(run_dir, "dreamer_policy_steps_total")[-1] == story.STEPS
    first_steps = [n for n in counted(run_dir, "dreamer_gradient_steps_total") if n == 1]
    assert len(first_steps) == 1  # the third learner began at the checkpoint of the second


def test_the_words_of_an_environment_that_crashes_are_in_the_log(story):
    assert "licence ran out" in (story.run.run_dir / "supervisor.log").read_text()


def test_a_service_is_replaced_without_waiting_for_an_evaluation(story):
    assert story.was_evaluating and "evaluator" not in restarts(story.run.run_dir)


def test_every_environment_is_closed_but_that_of_the_collector_that_was_killed(story):
    directory = story.run.run_dir.parent
    opened = (directory / "opened").read_text().split()
    left = Counter(opened) - Counter((directory / "closed").read_text().split())
    assert left.total() == 1 and len(opened) > 4


def test_ctrl_c_gives_up_the_last_evaluation_once_the_run_is_saved(story):
    assert story.exit_code == 130, story.run.stderr


def test_an_environment_that_always_crashes_ends_the_run_with_its_own_words(tmp_path, ray_address):
    run = Run(
        "train",
        tmp_path / "run",
        *CATCH,
        *NO_EVALUATION,
        *on(ray_address),
        "--env.task",
        "tests.services.failing_env:make_broken_env",
        "--runtime.max-fruitless-restarts",
        "1",
    )
    assert run.finish() == 1
    assert_one_paragraph(run, "without progress", "licence ran out", "start the same command")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path, ray_address
):
    run = Run(
        "train",
        tmp_path / "run",
        *CATCH,
        *NO_EVALUATION,
        *OFTEN,
        *on(ray_address),
        "--steps",
        "400",
        "--env.task",
        "tests.core.counting_env:make_exploding_env",
        "--world-model.reward-transform",
        "identity",
    )
    assert run.finish() == 1
    assert_one_paragraph(run, "world_model loss at gradient step", "reward is")
    policy_step, gradient_step = checkpoint_counts(run.run_dir)
    assert gradient_step <= due(policy_step)
    found = checkpoint.load(LocalStore(run.run_dir / "checkpoints"))
    assert all(bool(x.isfinite().all()) for x in found.tensors["world_model"].values())
    assert not run.survivors()
