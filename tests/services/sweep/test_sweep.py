"""Real sweeps of small runs: killed, resumed, stopped, with failures, several on one GPU."""

import contextlib
import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from dreamer_core.report.read import read_jsonl
from services.sweep.directory import SweepDirectory
from services.sweep.plan import RunKey
from services.sweep.status import SweepReader, described
from tests.runs import OFTEN, Run, checkpoint_counts, due, replay_counts

pytestmark = pytest.mark.timeout(600)
STEPS = 500
STEPS_BEFORE_STOP = 60
GYMNASIUM = (
    *("--env.suite", "gymnasium", "--env.action-repeat", "1"),
    *("--env.time-limit-steps", "None"),
)
CATCH = "tests.learning.catch:make_env"
SLOW = "tests.services.failing_env:make_slow_env"  # is met in the middle, while it is told so
TWO_BY_TWO = (
    *(*GYMNASIUM, "--games", f"{CATCH},{SLOW}"),
    *("--seeds", "2", "--steps", str(STEPS), *OFTEN),
)
KEYS = {RunKey(game, seed) for game in (CATCH, SLOW) for seed in (0, 1)}


def run_dir(run, key):
    return SweepDirectory(run.run_dir).run_dir(key)


def finished(run):
    return set(SweepDirectory(run.run_dir).finished())


def reached(run, key):
    """How far a run has come; 0 before it has begun."""
    lines = read_jsonl(run_dir(run, key) / "metrics.jsonl")
    return max((line.policy_step for line in lines), default=0)


def policy_steps(run):
    """How far each unfinished run has come that has begun."""
    steps = {key: reached(run, key) for key in KEYS - finished(run)}
    return {key: step for key, step in steps.items() if step > 0}


def last_writes(run, keys):
    """When each file of these runs was last written."""
    files = [path for key in keys for path in run_dir(run, key).rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


def events(run, *words):
    """What the sweep's log says that holds one of the words, as (run, word), in order."""
    pattern = re.compile(
        rf"(?: |\")(?:INFO|WARNING|ERROR)(?: |\", \"message\": \")(\S+ \d+): ({'|'.join(words)})"
    )
    return pattern.findall(SweepDirectory(run.run_dir).log.read_text())


def trainers(run):
    """What trains, and what watches that; Ray's own agents take their time to end."""
    own = ("ray::SweepWorker", "services.cli", "services.sweep.tied", "sweep")
    return [line for line in run.processes().values() if any(name in line for name in own)]


# Killed, started again, stopped, started again


class Story:
    """What happened to a sweep of four runs, and what was there in between."""

    def __init__(self, sweep_dir):
        told = {"OBEDIENT_DIR": str(sweep_dir.parent)}
        slow = sweep_dir.with_name("slow")
        slow.touch()
        self.run = run = Run("sweep", sweep_dir, *TWO_BY_TWO, "--runs-at-once", "2", **told)
        run.wait_until(lambda: finished(run) and policy_steps(run), timeout_s=200)
        run.kill("supervisor")
        run.finish()
        self.has_died = comes_true(lambda: not trainers(run))
        self.done_at_kill, self.steps_at_kill = finished(run), policy_steps(run)
        self.writes_at_kill = last_writes(run, self.done_at_kill)
        self.stopped = stopped = Run("sweep", sweep_dir, *TWO_BY_TWO, **told)
        stopped.wait_until(self._all_went_on, timeout_s=200)
        stopped.terminate()
        self.stop_exit_code = stopped.finish()
        self.counts_at_stop = {
            key: (checkpoint_counts(run_dir(run, key))[0], replay_counts(run_dir(run, key)))
            for key in policy_steps(run)
        }
        slow.unlink()
        self.ended = Run("sweep", sweep_dir, *TWO_BY_TWO, **told)
        self.end_exit_code = self.ended.finish(timeout_s=200)

    def _all_went_on(self):
        """Whether some run that is not done has begun, and each such has come further by now."""
        steps = policy_steps(self.stopped)
        further = {key: step - self.steps_at_kill.get(key, 0) for key, step in steps.items()}
        return steps and min(further.values()) > 0 and sum(further.values()) >= STEPS_BEFORE_STOP


def comes_true(condition, timeout_s=60):
    give_up_s = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return Story(tmp_path_factory.mktemp("story") / "sweep")


def test_nothing_outlives_a_sweep_that_is_killed(story):
    assert story.has_died
    assert not trainers(story.stopped) and not trainers(story.ended)


def test_a_sweep_that_is_started_again_trains_every_run_to_its_end(story):
    assert story.end_exit_code == 0, story.ended.stderr + story.ended.stdout
    assert finished(story.run) == KEYS
    for key in KEYS:
        assert checkpoint_counts(run_dir(story.run, key)) == (STEPS, due(STEPS)), key


def test_finished_runs_are_not_touched_again(story):
    assert story.done_at_kill
    assert last_writes(story.run, story.done_at_kill) == story.writes_at_kill
    starts = Counter(key for key, _ in events(story.run, "started"))
    assert all(starts[str(key)] == 1 for key in story.done_at_kill)


def test_sigterm_leaves_a_checkpoint_of_everything_in_every_run(story):
    assert story.stop_exit_code == 143, story.stopped.stderr
    assert "the same command resumes it" in " ".join(story.stopped.stdout.split())
    assert story.counts_at_stop
    for saved, stored in story.counts_at_stop.values():
        assert saved == stored.policy_steps > 0


def test_the_end_says_what_each_game_reached(story):
    assert "4 done, 0 running, 0 waiting, 0 failed" in " ".join(story.ended.stdout.split())


# Failures, and two runs on one GPU

BROKEN = "tests.services.failing_env:make_broken_env"
TAKEN = "tests.services.failing_env:make_failing_env"
ONE_GPU = (
    *GYMNASIUM,
    "--games",
    f"{BROKEN},{CATCH},{TAKEN}",
    "--steps",
    "100",
    "--retries",
    "1",
    *("--evaluation.interval-frames", "100"),
)


def visible_gpus(sweep_dir):
    """What the processes of the runs see of CUDA's devices."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            command = (path / "cmdline").read_text()
            if "services.cli\0local" in command and str(sweep_dir) in command:
                variables = (path / "environ").read_text().split("\0")
                found |= {x for x in variables if x.startswith("CUDA_VISIBLE_DEVICES=")}
    return found


@pytest.fixture(scope="module")
def packed(tmp_path_factory, ray_address):
    """A sweep on a cluster that has one GPU, or says so, and one that fits nowhere."""
    sweep_dir = tmp_path_factory.mktemp("packed") / "sweep"
    told = ("--metrics.targets-dir", sweep_dir.with_name("targets"), "--log-format", "json")
    on_cluster = ("--gpus-per-run", "0.5", "--ray-address", ray_address)
    run = Run("sweep", sweep_dir, *ONE_GPU, *on_cluster, *told)
    run.wait_until(SweepDirectory(sweep_dir).marker.exists)
    taken = run_dir(run, RunKey(TAKEN, 0))
    taken.mkdir()
    (taken / "thesis.tex").touch()
    too_large = Run(
        "sweep",
        sweep_dir.with_name("large"),
        *ONE_GPU,
        "--cpus-per-run",
        "9",
        "--ray-address",
        ray_address,
    )
    run.gpus = run.wait_until(lambda: visible_gpus(sweep_dir))
    run.exit_code, too_large.exit_code = run.finish(timeout_s=200), too_large.finish()
    return run, too_large


def test_as_many_runs_share_a_gpu_as_it_has_parts_and_the_next_one_waits(packed):
    happened = [word for _, word in events(packed[0], "started", "failed", "done")]
    assert happened[:2] == ["started"] * 2
    running = 0
    for word in happened:
        running += 1 if word == "started" else -1
        assert 0 <= running <= 2


def test_a_run_sees_the_gpu_that_it_was_given(packed):
    assert packed[0].gpus == {"CUDA_VISIBLE_DEVICES=0"}


def test_a_run_that_fails_is_tried_again_and_listed_with_its_reason(packed):
    run, _ = packed
    assert run.exit_code == 1, run.stderr
    tries = Counter(events(run, "started", "failed for good"))
    assert tries[f"{BROKEN} 0", "started"] == 2 and tries[f"{BROKEN} 0", "failed for good"] == 1
    failed = told_by(run)[RunKey(BROKEN, 0).name]
    assert "the simulator's licence ran out" in failed["reason"] and failed["failures"] == 2


def told_by(run):
    """The runs of a sweep by name, as `dreamer status --json` has them."""
    return {each["name"]: each for each in described(SweepReader(run.run_dir).read())["runs"]}


def test_what_a_sweep_says_as_json_is_one_object_a_line(packed):
    run, _ = packed
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    ended = lines[-1]
    assert (ended["done"], ended["failed"], ended["is_finished"]) == (1, 2, True)
    assert {"dreamer", "progress"} == {line["service"] for line in lines}
    assert sum("1 done" in line["message"] for line in lines if line["service"] == "dreamer") == 1
    of_run = run_dir(run, RunKey(CATCH, 0)).parent / "logs" / f"{RunKey(CATCH, 0).name}.log"
    assert all(line.startswith("{") for line in of_run.read_text().splitlines()[1:])


def test_prometheus_is_told_that_a_sweep_is_over_of_which_runs_have_failed(packed):
    (file,) = packed[0].run_dir.with_name("targets").iterdir()
    assert json.loads(file.read_text())[0]["labels"]["ended"] == "failed"


def test_bad_input_is_tried_again_like_any_failure(packed):
    tries = Counter(events(packed[0], "started"))
    assert tries[f"{TAKEN} 0", "started"] == 2
    assert "thesis.tex" in SweepDirectory(packed[0].run_dir).log.read_text()


def test_the_other_run_finishes_and_has_a_score(packed):
    scores = SweepDirectory(packed[0].run_dir).finished()
    assert set(scores) == {RunKey(CATCH, 0)}
    score = scores[RunKey(CATCH, 0)]
    assert -5 <= score.evaluation_return <= 5 and score.evaluation_episodes == 1
    assert -5 <= score.training_return <= 5 and score.training_episodes > 1


def test_runs_that_no_node_could_hold_are_refused_before_any_starts(packed):
    assert packed[1].exit_code == 2
    assert "9 CPUs" in " ".join(packed[1].stderr.split())
