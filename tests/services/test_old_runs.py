"""Runs that version 0.1.0 left half-way, see fixtures/runs_0_1_0/make.py, go on with this one."""

import json
import tarfile

import numpy as np
import pytest

from dreamer_core.storage.provenance import RUN_FORMAT, VERSIONS_FILE, read_versions
from dreamer_core.storage.run_directory import read_config
from tests.commands import exit_code_of
from tests.core.agent.test_golden_losses import TOLERANCE
from tests.fixtures.runs_0_1_0.make import HERE, OPTIONS, SERVICES, STOPPED_AT
from tests.runs import Run, checkpoint_counts, counted, due, losses, stored_policy_steps

SMALL = (
    *("--env.task", "freeway", "--checkpoint.keep", "1", "--learner.device", "cpu"),
    *("--world-model.conv-depth", "1", "--world-model.deter", "4", "--world-model.hidden", "4"),
    *("--world-model.stoch", "2", "--world-model.classes", "2", "--world-model.head-units", "4"),
    *("--behavior.units", "4"),
)
STEPS, STOPPED = 200, (120, STOPPED_AT)


def unpacked(name, directory):
    with tarfile.open(HERE / f"{name}.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory / name


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """What `dreamer train` of version 0.1.0 left; tests only read it."""
    return unpacked("train", tmp_path_factory.mktemp("old"))


def assert_is_the_run_that_was_never_stopped(run_dir):
    assert checkpoint_counts(run_dir) == (STEPS, due(STEPS))
    assert stored_policy_steps(run_dir) == (STEPS, STEPS)
    steps = counted(run_dir, "dreamer_policy_steps_total")
    assert steps == sorted(steps) and steps[-1] == STEPS
    assert counted(run_dir, "dreamer_gradient_steps_total") == list(range(1, due(STEPS) + 1))
    wanted, got = json.loads((HERE / "losses.json").read_text()), losses(run_dir)
    assert len(got) == len(wanted) == due(STEPS)
    for name in wanted[0]:
        theirs, ours = (np.array([values[name] for values in run]) for run in (wanted, got))
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max(), name


@pytest.mark.parametrize("name", ["local", "train"])
def test_one_process_ends_it_with_the_losses_of_a_run_that_was_never_stopped(tmp_path, name):
    run_dir = unpacked(name, tmp_path)
    assert checkpoint_counts(run_dir) == STOPPED
    assert exit_code_of("local", "debug", "--run-dir", run_dir, *OPTIONS) == 0
    assert_is_the_run_that_was_never_stopped(run_dir)


def test_the_services_end_it_with_the_losses_of_a_run_that_was_never_stopped(tmp_path):
    run = Run("train", unpacked("train", tmp_path), *OPTIONS, *SERVICES)
    assert run.finish() == 0, run.stderr
    assert_is_the_run_that_was_never_stopped(run.run_dir)


def test_a_run_from_before_runs_said_their_version_goes_on_and_says_it(tmp_path):
    """fixtures/run_9bead41: `dreamer local debug` of that commit, with the model of `SMALL`."""
    with tarfile.open(HERE.parent / "run_9bead41" / "local.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run_dir = tmp_path / "run_9bead41"
    assert read_versions(run_dir / VERSIONS_FILE).format == 1
    assert checkpoint_counts(run_dir) == (66, due(66))
    assert exit_code_of("local", "debug", "--run-dir", run_dir, "--steps", "70", *SMALL) == 0
    assert checkpoint_counts(run_dir) == (70, due(70))
    assert stored_policy_steps(run_dir) == (70, 70)
    assert read_versions(run_dir / VERSIONS_FILE).format == RUN_FORMAT
    assert read_config(run_dir).env.task == "freeway"


def test_status_says_where_it_stands(dreamer, old):
    code, said, _ = dreamer("status", old)
    assert code == 0
    words = " ".join(said.split())
    assert "120" in words and "gradient step 15" in words


def test_every_byte_of_its_replay_is_whole(dreamer, old):
    code, said, _ = dreamer("replay", "verify", old)
    assert code == 0, said


def test_its_agent_plays(dreamer, old):
    code, said, _ = dreamer("eval", old, "--episodes", "1")
    assert code == 0 and "return" in said


def test_its_log_is_printed(dreamer, old):
    code, said, _ = dreamer("logs", old)
    assert code == 0 and "Stopped at gradient step 15" in said
