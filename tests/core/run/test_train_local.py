"""The whole algorithm in one process: exact counts, seeded losses, stops, resumes and failures."""

import itertools
import json
import shutil
import sys
import time

import pytest
from PIL import Image

from dreamer_core.agent.agent import NonFiniteLoss
from dreamer_core.presets import preset
from dreamer_core.report.read import read_jsonl
from dreamer_core.run.local import train_local
from dreamer_core.run.progress import Pulse
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunDirectoryError
from dreamer_core.storage.store import LocalStore
from tests.core.report.logs import events_of
from tests.core.small import changed

PREFILL, RATIO = 50, 4
CATCH = changed(
    preset("debug"),
    {
        "env.suite": "gymnasium",
        "env.task": "tests.learning.catch:make_env",
        "env.action_repeat": 1,
        "env.time_limit_steps": None,
        "learner.device": "cpu",
        "learner.num_threads": 1,
        "steps": 75,
    },
)
STEPS, GRADIENT_STEPS = 75, 6
PONG = changed(preset("debug"), {"steps": 63, "learner.device": "cpu", "learner.num_threads": 1})
EXPLODING = changed(
    CATCH,
    {
        "env.task": "tests.core.counting_env:make_exploding_env",
        "steps": 300,
        "world_model.reward_transform": "identity",
        "checkpoint.interval_s": 1e-9,  # after each collect call
    },
)


class Tape:
    """Observes a run, and may ask it to stop."""

    def __init__(self, stop_at=None):
        self.losses, self.counts, self._stop_at = [], [], stop_at

    def observe(self, report, policy_step, gradient_step):
        self.counts.append((policy_step, gradient_step))
        if report.service == "learner" and "dreamer_actor_loss" in report.values:
            names = sorted(name for name in report.values if "_loss" in name or "_norm" in name)
            self.losses.append([report.values[name] for name in names])

    def should_stop(self):
        return self._stop_at is not None and self.counts and self.counts[-1] >= self._stop_at


def run(run_dir, config=CATCH, stop_at=None):
    tape = Tape(stop_at)
    result = train_local(config, run_dir, observe=tape.observe, should_stop=tape.should_stop)
    return result, tape


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on Catch: (result, tape). Tests only read it."""
    return run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module", autouse=True)
def a_pulse_after_every_collect():
    before, Pulse.interval_s = Pulse.interval_s, 0.0
    yield
    Pulse.interval_s = before


def counted(run_dir, name):
    """Each value that a counter had in metrics.jsonl, in order."""
    return [
        line.values[name] for line in read_jsonl(run_dir / "metrics.jsonl") if name in line.values
    ]


def facts(run_dir):
    found = checkpoint.load(LocalStore(run_dir / "checkpoints"))
    assert found is not None
    return found.facts["policy_step"], found.facts["gradient_step"]


def write_times(root):
    """When each file but the lock was written."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != "run.lock"}


# A whole run


def test_a_run_takes_its_steps_and_exactly_their_share_of_gradient_steps(finished):
    result, tape = finished
    assert result.is_finished
    assert (result.policy_steps, result.gradient_steps) == (STEPS, GRADIENT_STEPS)
    assert len(tape.losses) == GRADIENT_STEPS


def test_the_log_ends_with_the_exact_counts(finished):
    root = finished[0].run_dir
    steps = counted(root, "dreamer_policy_steps_total")
    assert [step for step, _ in itertools.groupby(steps)] == [10, 20, 30, 40, 50, 60, 70, 75]
    assert counted(root, "dreamer_env_frames_total")[-1] == STEPS  # action repeat 1
    assert counted(root, "dreamer_gradient_steps_total") == [1, 2, 3, 4, 5, 6]
    assert counted(root, "dreamer_replay_steps")[-1] == STEPS + 3  # and a row per reset
    last = read_jsonl(root / "metrics.jsonl")[-1]
    assert (last.policy_step, last.gradient_step) == (STEPS, GRADIENT_STEPS)


def test_training_never_runs_ahead_of_what_was_collected(finished):
    for policy_step, gradient_step in finished[1].counts:
        assert gradient_step <= max(0, policy_step - PREFILL) // RATIO


def test_where_it_stands_is_told_between_the_gradient_steps_of_a_pretraining(tmp_path):
    told = []

    def observe(report, policy_step, gradient_step):
        if "dreamer_gradient_steps_per_second" in report.values and policy_step == PREFILL:
            told.append(gradient_step)

    train_local(changed(CATCH, {"schedule.pretrain_gradient_steps": 4}), tmp_path, observe=observe)
    assert {1, 2, 3, 4} <= set(told)


def test_the_episode_that_ended_is_in_the_log(finished):
    lines = read_jsonl(finished[0].run_dir / "metrics.jsonl")
    (episode,) = [episode for line in lines for episode in line.episodes]
    assert (episode.policy_step, episode.length) == (49, 49)
    assert -5 <= episode.episode_return <= 5


def test_a_run_leaves_a_checkpoint_of_its_last_step_and_two_pictures(finished):
    result, _ = finished
    assert facts(result.run_dir) == (STEPS, GRADIENT_STEPS)
    assert [path.name for path in result.pictures] == ["learning_curve.png", "open_loop.png"]
    for path in result.pictures:
        with Image.open(path) as picture:
            picture.verify()
    assert json.loads((result.run_dir / "config.json").read_text())["steps"] == STEPS
    assert any((result.run_dir / "tensorboard").iterdir())
    assert len(events_of(result.run_dir).Images("open_loop")) == 1


def test_tensorboard_tells_what_a_run_is_from_its_first_step_on(finished):
    (text,) = events_of(finished[0].run_dir).Tensors("run")
    assert text.step == 0
    assert b"| env.task | tests.learning.catch:make_env | pong |" in text.tensor_proto.string_val[0]


def test_an_atari_game_trains_to_the_end_with_frames_counted_after_repeat(tmp_path):
    result, tape = run(tmp_path, PONG)
    assert (result.policy_steps, result.gradient_steps) == (63, 3)
    assert counted(tmp_path, "dreamer_env_frames_total")[-1] == 4 * 63
    assert len(tape.losses) == 3 and all(path.exists() for path in result.pictures)


def test_frames_that_an_id_skips_itself_are_counted_everywhere(tmp_path, caplog):
    skips = {"env.suite": "gymnasium", "env.task": "ALE/Pong-v5", "env.action_repeat": 2}
    run(tmp_path, changed(PONG, skips))
    assert counted(tmp_path, "dreamer_env_frames_total")[-1] == 2 * 4 * 63
    assert read_jsonl(tmp_path / "metrics.jsonl")[-1].env_frame == 2 * 4 * 63
    assert "Each action lasts 8 frames: ALE/Pong-v5 plays 4" in caplog.text


def test_the_same_seed_gives_the_same_losses_to_the_last_bit(finished, tmp_path):
    assert run(tmp_path)[1].losses == finished[1].losses


def test_a_clock_that_jumps_changes_nothing_but_the_times_in_the_log(
    finished, tmp_path, monkeypatch
):
    now, jumps = time.time, itertools.cycle([0.0, -1e8, 3e8])
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    result, tape = run(tmp_path)
    assert tape.losses == finished[1].losses and tape.counts == finished[1].counts
    times = [line.wall_time_s for line in read_jsonl(result.run_dir / "metrics.jsonl")]
    assert times != sorted(times) and facts(tmp_path) == (STEPS, GRADIENT_STEPS)


def test_another_seed_gives_other_losses(finished, tmp_path):
    config = changed(CATCH, {"seed": 1, "steps": 54})
    assert run(tmp_path, config)[1].losses[0] != finished[1].losses[0]


# Stop and resume


@pytest.mark.parametrize("stop_at", [(20, 0), (60, 0), (60, 1), (70, 5)])
def test_a_stopped_run_resumes_where_it_was_and_ends_with_the_exact_counts(tmp_path, stop_at):
    stopped, first = run(tmp_path, stop_at=stop_at)
    assert not stopped.is_finished
    assert (stopped.policy_steps, stopped.gradient_steps) == stop_at == facts(tmp_path)
    result, second = run(tmp_path)
    assert result.is_finished
    assert (result.policy_steps, result.gradient_steps) == (STEPS, GRADIENT_STEPS)
    assert second.counts == sorted(second.counts) and second.counts[0] >= stop_at
    assert len(first.losses) + len(second.losses) == GRADIENT_STEPS
    assert counted(tmp_path, "dreamer_gradient_steps_total") == [1, 2, 3, 4, 5, 6]


def test_a_stop_before_anything_was_trained_still_leaves_a_resumable_run(tmp_path):
    result, _ = run(tmp_path, stop_at=(10, 0))
    assert [path.name for path in result.pictures] == ["learning_curve.png"]
    assert facts(tmp_path) == (10, 0)


def test_gradient_steps_that_were_lost_with_the_newest_checkpoint_are_taken_again(tmp_path):
    often = changed(CATCH, {"checkpoint.interval_s": 1e-9})  # after each collect call
    run(tmp_path, often, stop_at=(70, 4))
    shutil.rmtree(tmp_path / "checkpoints" / f"{4:012d}")
    result, tape = run(tmp_path)
    assert (result.policy_steps, result.gradient_steps) == (STEPS, GRADIENT_STEPS)
    assert len(tape.losses) == 4
    assert counted(tmp_path, "dreamer_gradient_steps_total") == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_goes_on_when_it_is_given_more_steps(tmp_path):
    run(tmp_path, changed(CATCH, {"steps": 61}))
    result, tape = run(tmp_path)
    assert (result.policy_steps, result.gradient_steps) == (STEPS, GRADIENT_STEPS)
    assert tape.counts[0][0] == 61 and len(tape.losses) == GRADIENT_STEPS - 2


def test_starting_a_finished_run_again_takes_no_step(tmp_path):
    config = changed(CATCH, {"steps": 61})
    run(tmp_path, config)
    result, tape = run(tmp_path, config)
    assert result.is_finished and tape.losses == []
    assert (result.policy_steps, result.gradient_steps) == (61, 2)


def test_another_game_in_the_same_directory_is_refused_before_anything_is_written(finished):
    root = finished[0].run_dir
    before = write_times(root)
    with pytest.raises(RunDirectoryError, match=r"env.suite='gymnasium' there, 'atari' asked"):
        run(root, PONG)
    assert write_times(root) == before


# Failure


def test_a_loss_that_is_not_finite_stops_the_run_by_name_and_keeps_the_last_good_checkpoint(
    tmp_path,
):
    with pytest.raises(NonFiniteLoss, match=r"world_model loss at gradient step .*: reward is"):
        run(tmp_path, EXPLODING)
    trained = counted(tmp_path, "dreamer_gradient_steps_total")[-1]
    policy_step, gradient_step = facts(tmp_path)
    assert 0 < gradient_step <= trained and policy_step >= PREFILL + RATIO * gradient_step
    found = checkpoint.load(LocalStore(tmp_path / "checkpoints"))
    weights = found.tensors["world_model"].values()
    assert all(bool(weight.isfinite().all()) for weight in weights)


def test_a_run_that_failed_fails_again_at_the_same_place_when_it_is_resumed(tmp_path):
    messages = []
    for _ in range(2):
        with pytest.raises(NonFiniteLoss, match="gradient step") as caught:
            run(tmp_path, EXPLODING)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_picture_that_cannot_be_written_is_not_worth_a_run(tmp_path, caplog):
    run(tmp_path, changed(CATCH, {"steps": 61}))
    (tmp_path / "open_loop.png").unlink()
    (tmp_path / "open_loop.png").mkdir()
    result, _ = run(tmp_path)
    assert result.is_finished and [path.name for path in result.pictures] == ["learning_curve.png"]
    assert "open_loop.png was not written" in caplog.text


def test_a_matplotlib_that_was_lost_is_not_worth_a_run(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    config = changed(CATCH, {"evaluation.interval_frames": 10})  # the learner is to draw, too
    result, _ = run(tmp_path / "run", config)
    assert result.is_finished and result.pictures == ()
    words = caplog.text
    assert words.count("No open-loop picture was drawn: Wanted matplotlib") > 1
    assert words.count("No learning curve was drawn: Wanted matplotlib") == 1
