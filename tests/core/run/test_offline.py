"""Training from a fixed replay: what it takes, leaves alone, resumes exactly and refuses."""

import shutil

import pytest

from dreamer_core.errors import BadInput, Failed
from dreamer_core.presets import preset
from dreamer_core.replay.fixed import FixedReplay
from dreamer_core.report.read import read_jsonl
from dreamer_core.run.local import train_local
from dreamer_core.run.offline import train_offline
from dreamer_core.run.recorded import recorded
from dreamer_core.storage import checkpoint
from dreamer_core.storage.run_directory import RunDirectoryError
from dreamer_core.storage.store import LocalStore
from tests.commands import contents
from tests.core.small import CATCH, changed
from tests.runs import CATCH as CATCH_OPTIONS
from tests.runs import EXACT, OFTEN, Run, losses, losses_by_step

RATIO, GRADIENT_STEPS = 4, 8
SOURCE = changed(preset("debug"), {**CATCH, "learner.num_threads": 1, "steps": 60})
CONFIG = changed(SOURCE, {"steps": RATIO * GRADIENT_STEPS})
NOWHERE = changed(CONFIG, {"env.task": "nowhere.at_all:make_env", "evaluation.interval_frames": 8})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run whose replay is trained from; tests only read it."""
    run_dir = tmp_path_factory.mktemp("source") / "run"
    train_local(SOURCE, run_dir)
    return run_dir


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """(result, files of the source before) of a run that nobody disturbs; tests only read it."""
    before = contents(source)
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    return train_offline(CONFIG, run_dir, [source]), before


def stopped_at(gradient_step):
    """An observer and a question that stops a run there."""
    seen = [0]

    def observe(_report, _policy_step, at):
        seen[0] = at

    return {"observe": observe, "should_stop": lambda: seen[0] >= gradient_step}


def grown(source, to):
    """A copy of the source that has trained on."""
    shutil.copytree(source, to)
    train_local(changed(SOURCE, {"steps": 90}), to)
    return to


# A whole run


def test_a_run_takes_its_gradient_steps_and_leaves_the_replay_as_it_was(source, whole):
    result, before = whole
    assert result.is_finished and result.gradient_steps == GRADIENT_STEPS
    assert len(losses(result.run_dir)) == GRADIENT_STEPS
    assert contents(source) == before
    assert [path.name for path in result.pictures] == ["learning_curve.png", "open_loop.png"]


def test_policy_steps_are_those_that_stand_for_its_gradient_steps(whole):
    lines = read_jsonl(whole[0].run_dir / "metrics.jsonl")
    assert all(line.policy_step == RATIO * line.gradient_step for line in lines)
    assert not any("dreamer_policy_steps_total" in line.values for line in lines)  # none is taken
    found = checkpoint.load(LocalStore(whole[0].run_dir / "checkpoints"))
    assert found.facts["policy_step"] == RATIO * GRADIENT_STEPS


def test_a_replay_that_is_being_written_is_trained_from(source, whole, tmp_path):
    copy = shutil.copytree(source, tmp_path / "copy")
    written = []

    def observe(report, _policy_step, _gradient_step):
        if report.service == "learner" and not written:  # the run has its replay open
            written.append(train_offline(CONFIG, tmp_path / "run", [copy]))

    train_local(changed(SOURCE, {"steps": 64}), copy, observe=observe)
    assert losses(tmp_path / "run") != [] and written[0].is_finished


def test_evaluations_are_played_where_as_many_steps_would_have_been_taken(source, tmp_path):
    config = changed(CONFIG, {"evaluation.interval_frames": 16, "evaluation.episode_limit": 5})
    train_offline(config, tmp_path, [source])
    lines = [x for x in read_jsonl(tmp_path / "metrics.jsonl") if x.service == "evaluator"]
    assert [line.values["dreamer_evaluation_gradient_steps"] for line in lines] == [4, 8]


# Resumed


def test_a_stopped_run_goes_on_with_the_same_losses(source, whole, tmp_path):
    first = train_offline(CONFIG, tmp_path, [source], **stopped_at(3))
    assert (first.gradient_steps, first.is_finished) == (3, False)
    assert train_offline(CONFIG, tmp_path, [source]).is_finished
    assert losses_by_step(tmp_path) == losses_by_step(whole[0].run_dir)


def test_a_killed_run_goes_on_with_the_same_losses(source, tmp_path):
    options = (*CATCH_OPTIONS, *EXACT, *OFTEN, "--replay", str(source), "--steps", "500")
    killed = Run("offline", tmp_path / "killed", *options)
    store = LocalStore(tmp_path / "killed/checkpoints")
    killed.wait_until(lambda: checkpoint.newest(store))
    killed.kill("supervisor")
    killed.finish()
    steps = RATIO * (checkpoint.newest(store).step + 5)
    config = changed(CONFIG, {"steps": steps, "replay.segment_steps": 64})
    train_offline(config, tmp_path / "killed", [source])
    train_offline(config, tmp_path / "whole", [source])
    assert losses_by_step(tmp_path / "killed") == losses_by_step(tmp_path / "whole")


def test_rows_that_a_growing_run_added_are_left_out_when_it_resumes(source, whole, tmp_path):
    train_offline(CONFIG, tmp_path / "run", [source], **stopped_at(3))
    later = grown(source, tmp_path / "grown")
    train_offline(CONFIG, tmp_path / "run", [later])
    assert losses_by_step(tmp_path / "run") == losses_by_step(whole[0].run_dir)


def test_other_rows_are_refused_by_a_run_that_began_with_these(source, whole, tmp_path):
    other = tmp_path / "other"
    train_local(changed(SOURCE, {"seed": 1}), other)
    run_dir, before = whole[0].run_dir, contents(whole[0].run_dir)
    with pytest.raises(BadInput, match=r"was begun with other rows .* Name the same"):
        train_offline(CONFIG, run_dir, [other])
    with pytest.raises(BadInput, match="begun with 1 replays, but 2 are named"):
        train_offline(CONFIG, run_dir, [source, other])
    for path in (other / "replay").glob("*.segment"):
        path.unlink()
    with pytest.raises(BadInput, match="holds none"):
        train_offline(CONFIG, run_dir, [other])
    assert contents(run_dir) == before


def test_a_run_that_collects_is_no_offline_run_nor_the_reverse(source, whole):
    with pytest.raises(RunDirectoryError, match="holds another run"):
        train_offline(SOURCE, source, [source])
    with pytest.raises(RunDirectoryError, match=r"holds another run .*offline\.data"):
        train_local(CONFIG, whole[0].run_dir)


# What is named


def test_several_replays_are_drawn_from_as_one(source, tmp_path):
    later = grown(source, tmp_path / "grown")
    data = recorded(CONFIG, [source, later / "replay"])
    assert data.replay.rows == (63, 94)
    with pytest.raises(BadInput, match="more than once"):
        recorded(CONFIG, [source, source / "replay"])


def test_an_environment_that_cannot_be_made_is_told_once_and_nothing_is_evaluated(
    source, tmp_path, caplog
):
    train_offline(NOWHERE, tmp_path, [source])
    told = [each for each in caplog.messages if "Nothing is evaluated" in each]
    assert len(told) == 1 and "nowhere.at_all" in told[0]
    assert not any(x.service == "evaluator" for x in read_jsonl(tmp_path / "metrics.jsonl"))


def test_the_kind_of_actions_comes_from_a_run_or_from_the_option(source):
    assert recorded(NOWHERE, [source]).spec.is_discrete
    with pytest.raises(BadInput, match="--actions discrete or continuous"):
        recorded(NOWHERE, [source / "replay"])
    data = recorded(NOWHERE, [source / "replay"], actions="continuous")
    assert not data.spec.is_discrete and data.spec.action_size == 3


def test_rows_of_another_environment_are_refused(source):
    config = changed(CONFIG, {"env.task": "tests.learning.reach:make_env"})
    config = changed(config, {"evaluation.interval_frames": 8})
    with pytest.raises(BadInput, match=r"has image shape.* holds rows of .*--env\.task"):
        recorded(config, [source])


# Damage


def test_a_damaged_record_is_left_out_from_the_beginning(source, tmp_path, caplog):
    copy = shutil.copytree(source / "replay", tmp_path / "copy")
    (segment,) = copy.glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    before = contents(copy)
    replay = FixedReplay([copy], CONFIG.replay)
    assert replay.num_rows < 63 and "Left out as damaged" in caplog.text
    assert replay.sample(0, 0).reward.shape == (CONFIG.replay.batch_size, 8)
    assert contents(copy) == before


def test_a_file_that_is_cut_while_it_is_read_ends_the_run_with_words(source, tmp_path):
    copy = shutil.copytree(source / "replay", tmp_path / "copy")
    (segment,) = copy.glob("*.segment")
    replay = FixedReplay([copy], CONFIG.replay)
    with segment.open("rb+") as file:
        file.truncate(segment.stat().st_size // 2)
    with pytest.raises(Failed, match="was cut since it was opened"):
        [replay.sample(step, 0) for step in range(9)]
