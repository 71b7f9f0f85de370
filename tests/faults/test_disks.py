"""A disk that fills up, or takes no writes any more, under a run."""

import pytest

from tests.disks import breakable_disk, fill, make_read_only, make_room, small_disk
from tests.runs import (
    CATCH,
    NO_EVALUATION,
    OFTEN,
    Run,
    assert_one_paragraph,
    checkpoint_counts,
    counted,
    due,
    restarts,
    stored_policy_steps,
)

pytestmark = pytest.mark.faults

STEPS = 800
OPTIONS = (
    *(*CATCH, *NO_EVALUATION, *OFTEN, "--steps", str(STEPS)),
    *("--env.task", "tests.services.failing_env:make_obedient_env"),
)


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=48) as path:
        yield path


@pytest.fixture
def hold(tmp_path):
    """While this file is there, collectors wait after so many steps."""
    path = tmp_path / "hold"
    path.write_text("100")
    return path


def start(disk, hold):
    """A run that trains, and waits before it has come far."""
    run = Run("train", disk / "run", *OPTIONS, OBEDIENT_DIR=str(hold.parent))
    run.wait_for("dreamer_gradient_steps_total", least=5)
    return run


def assert_exact(run_dir):
    assert checkpoint_counts(run_dir) == (STEPS, due(STEPS))
    assert stored_policy_steps(run_dir) == (STEPS, STEPS)


def test_a_run_whose_disk_is_full_stands_still_and_goes_on_once_there_is_room(disk, hold):
    run = start(disk, hold)
    fill(disk)
    hold.unlink()
    run.wait_for("dreamer_errors_total", "replay")
    run.wait_for("dreamer_errors_total", "learner")  # the next checkpoint
    run.wait_for("dreamer_dropped_reports_total")
    age = "dreamer_checkpoint_age_seconds"
    begun_s = run.wait_for(age)[age,]
    stood, later = (run.wait_for(age, least=begun_s + seconds) for seconds in (4, 8))  # two beats
    assert later["dreamer_policy_steps_total",] == stood["dreamer_policy_steps_total",]
    make_room(disk)
    assert run.finish() == 0, run.stderr
    assert_exact(run.run_dir)
    assert restarts(run.run_dir) == {}
    assert "No space left on device" in " ".join(run.stdout.split())  # the console wraps lines
    assert counted(run.run_dir, "dreamer_policy_steps_total")[-1] == STEPS


def test_a_run_that_is_stopped_while_its_disk_is_full_says_so_and_resumes(disk, hold):
    run = start(disk, hold)
    fill(disk)
    hold.unlink()
    run.wait_for("dreamer_errors_total", "replay")
    run.interrupt()
    assert run.finish() == 1
    assert_one_paragraph(run, "last checkpoint was not written", "No space left on device")
    make_room(disk)
    run = Run("train", disk / "run", *OPTIONS)
    assert run.finish() == 0, run.stderr
    assert_exact(run.run_dir)


def test_a_run_whose_disk_turns_read_only_ends_with_the_reason_and_resumes(tmp_path, hold):
    with breakable_disk(tmp_path / "disk", megabytes=64) as disk:
        run = start(disk.path, hold)
        disk.fail()
        hold.unlink()
        assert run.finish() == 1, run.stdout[-3000:] + run.stderr
        assert_one_paragraph(run, "Read-only file system", "start the same command again")
        disk.mend()
        run = Run("train", disk.path / "run", *OPTIONS)
        assert run.finish() == 0, run.stderr
        assert_exact(run.run_dir)


def test_a_read_only_run_directory_is_refused_before_anything_starts(disk):
    make_read_only(disk)
    run = Run("train", disk / "run", *OPTIONS)
    assert run.finish() == 2
    assert_one_paragraph(run, "Read-only file system", "--run-dir")
