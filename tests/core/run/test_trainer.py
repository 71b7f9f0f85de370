"""The trainer: one gradient step a call, counted, reported, saved and restored."""

import dataclasses
import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dreamer_core.agent.agent import NonFiniteLoss
from dreamer_core.run.trainer import OPEN_LOOP, Trainer
from dreamer_core.storage import checkpoint
from dreamer_core.storage.store import LocalStore
from tests.core.small import CONTINUOUS, DISCRETE, changed, make_batch, small

CONFIG = changed(small("debug"), {"schedule.report_interval_gradient_steps": 3})


def make_trainer(directory, *, config=CONFIG, spec=DISCRETE):
    return Trainer(config, spec, directory)


def train(trainer, steps):
    """Takes so many steps, each on its own batch; returns what each call returned."""
    first = trainer.gradient_step
    return [
        trainer.train(make_batch(seed=step), gradient_step=step, policy_step=4 * step)
        for step in range(first, first + steps)
    ]


def losses(reports):
    values = [report.values for report in reports if report is not None]
    return [{k: v for k, v in row.items() if "_loss" in k or "_norm" in k} for row in values]


def same_tensors(first, second):
    """Whether two nested states are equal to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            same_tensors(first[k], second[k]) for k in first
        )
    if isinstance(first, list):
        return all(same_tensors(a, b) for a, b in zip(first, second, strict=True))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


# Steps


def test_each_call_takes_the_next_step(tmp_path):
    trainer = make_trainer(tmp_path)
    train(trainer, 2)
    assert trainer.gradient_step == trainer.snapshot().version == 2


@pytest.mark.parametrize("step", [0, 2])
def test_a_step_that_is_not_the_next_one_is_refused_and_changes_nothing(tmp_path, step):
    trainer = make_trainer(tmp_path)
    train(trainer, 1)
    before = trainer.snapshot().params
    with pytest.raises(ValueError, match=f"gradient step 1, but it was drawn for {step}: a call"):
        trainer.train(make_batch(), gradient_step=step, policy_step=0)
    after = trainer.snapshot().params
    assert trainer.gradient_step == 1
    assert all((before[name] == after[name]).all() for name in before)


def test_a_snapshot_is_a_copy_that_later_steps_leave_alone(tmp_path):
    trainer = make_trainer(tmp_path)
    snapshot = trainer.snapshot()
    before = {name: value.copy() for name, value in snapshot.params.items()}
    train(trainer, 1)
    assert all((before[name] == snapshot.params[name]).all() for name in before)
    assert any((before[name] != value).any() for name, value in trainer.snapshot().params.items())


# Reports


def test_a_report_comes_every_interval_and_only_then(tmp_path):
    reports = train(make_trainer(tmp_path), 7)
    assert [report is not None for report in reports] == [False, False, True] * 2 + [False]
    counts = [r.values["dreamer_gradient_steps_total"] for r in reports if r is not None]
    assert counts == [3, 6] and reports[2].service == "learner"


def test_a_report_holds_the_means_over_its_own_interval(tmp_path):
    each = changed(CONFIG, {"schedule.report_interval_gradient_steps": 1})
    single = losses(train(make_trainer(tmp_path / "each", config=each), 6))
    by_three = losses(train(make_trainer(tmp_path / "three"), 6))
    for name in single[0]:
        expected = [np.mean([row[name] for row in rows]) for rows in (single[:3], single[3:])]
        assert [row[name] for row in by_three] == pytest.approx(expected, rel=1e-5), name


def test_a_report_carries_the_seconds_of_each_of_its_steps(tmp_path):
    report = train(make_trainer(tmp_path), 3)[-1]
    seconds = report.observations["dreamer_gradient_step_seconds"]
    assert len(seconds) == 3
    mean = report.values["dreamer_gradient_step_seconds"]
    assert mean == pytest.approx(np.mean(seconds))


def test_the_schedules_follow_the_policy_steps(tmp_path):
    values = {"behavior.entropy_scale": 0.4, "behavior.entropy_scale_end": 0.0}
    values |= {"behavior.schedule_policy_steps": 16}
    config = changed(CONFIG, values | {"schedule.report_interval_gradient_steps": 1})
    reports = train(make_trainer(tmp_path, config=config), 3)
    scales = [report.values["dreamer_entropy_scale"] for report in reports]
    assert scales == pytest.approx([0.4, 0.3, 0.2])


# Saving and restoring


def test_a_restored_trainer_goes_on_to_the_last_bit(tmp_path, caplog):
    trainer = make_trainer(tmp_path)
    train(trainer, 3)
    trainer.save(policy_step=13)  # one more than are stored at the next step
    restored = make_trainer(tmp_path)
    assert restored.gradient_step == 3
    assert losses(train(restored, 3)) == losses(train(trainer, 3))
    assert same_tensors(restored.agent.state(), trainer.agent.state())
    assert caplog.text.count("made from 13 policy steps, but only 12 are stored") == 1


def test_a_checkpoint_says_what_it_was_made_from(tmp_path):
    trainer = make_trainer(tmp_path)
    train(trainer, 1)
    report = trainer.save(policy_step=57)
    found = checkpoint.load(LocalStore(tmp_path))
    assert found is not None and found.step == 1
    assert (found.facts["policy_step"], found.facts["gradient_step"]) == (57, 1)
    assert found.facts["config"]["preset"] == "debug" and "torch" in found.facts["versions"]
    assert report.values["dreamer_checkpoint_seconds"] > 0
    saved_s = report.values["dreamer_checkpoint_timestamp_seconds"]
    assert saved_s == pytest.approx(found.wall_time_s, abs=60)
    resumed = train(make_trainer(tmp_path), 2)[-1]  # to step 3, which is reported
    assert resumed.values["dreamer_checkpoint_timestamp_seconds"] == found.wall_time_s


def test_a_card_says_how_much_of_its_memory_is_taken(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path)
    assert not {name for name in trainer.save(policy_step=0).values if "gpu" in name}
    card = SimpleNamespace(total_memory=8e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3e9)
    monkeypatch.setattr(trainer.agent, "device", torch.device("cuda"))
    values = trainer.save(policy_step=0).values
    assert values["dreamer_gpu_memory_bytes"] == 8e9
    assert values["dreamer_gpu_memory_reserved_bytes"] == 3e9


def test_the_newest_checkpoints_and_every_nth_are_kept(tmp_path):
    trainer = make_trainer(
        tmp_path, config=changed(CONFIG, {"checkpoint.keep": 1, "checkpoint.keep_every": 2})
    )
    for _ in range(5):
        train(trainer, 1)
        trainer.save(policy_step=0)
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert names == ["000000000002", "000000000004", "000000000005"]


def test_a_trainer_saves_to_the_configured_url_and_resumes_from_there(tmp_path):
    config = changed(CONFIG, {"checkpoint.url": f"memory://{tmp_path}"})
    trainer = make_trainer(tmp_path, config=config)
    train(trainer, 1)
    trainer.save(policy_step=0)
    assert not list(tmp_path.iterdir())
    restored = make_trainer(tmp_path, config=config)
    assert same_tensors(restored.agent.state(), trainer.agent.state())


@pytest.mark.parametrize(
    ("path", "value", "there"),
    [
        ("preset", "atari", "'debug'"),
        ("env.task", "boxing", "'pong'"),
        ("seed", 1, "0"),
        ("world_model.deter", 32, "16"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_with_both_settings(tmp_path, path, value, there):
    make_trainer(tmp_path).save(policy_step=0)
    with pytest.raises(ValueError, match="is of another run") as caught:
        make_trainer(tmp_path, config=changed(CONFIG, {path: value}))
    message = str(caught.value)
    assert f"({path}={there} there, {value!r} asked for)" in message
    assert f"{tmp_path}/000000000000" in message and "--checkpoint.url" in message


def test_what_does_not_alter_the_algorithm_may_differ_from_the_checkpoints(tmp_path):
    trainer = make_trainer(tmp_path)
    train(trainer, 1)
    trainer.save(policy_step=0)
    values = {"steps": 9, "learner.num_threads": 2, "checkpoint.keep": 9}
    config = changed(CONFIG, {**values, "checkpoint.url": str(tmp_path)})
    assert make_trainer(tmp_path / "elsewhere", config=config).gradient_step == 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "no config that can be read: config .*written by"),
        ({}, "no config that can be read: config .*written by"),
        ({"presets": "debug"}, r"settings that this program does not know \(presets\)"),
    ],
)
def test_the_checkpoint_of_another_program_is_refused(tmp_path, config, reason):
    facts = {"config": config}
    checkpoint.save(LocalStore(tmp_path), step=1, tensors={}, facts=facts, keep=1)
    with pytest.raises(ValueError, match=reason):
        make_trainer(tmp_path)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (dataclasses.replace(DISCRETE, action_size=4), "'action_size': 4"),
        (dataclasses.replace(DISCRETE, image_shape=(64, 64, 3)), "'image_shape': [64, 64, 3]"),
        (CONTINUOUS, "'is_discrete': False"),
    ],
    ids=["actions", "channels", "kind"],
)
def test_the_checkpoint_of_another_environment_is_refused_with_both(tmp_path, spec, word):
    make_trainer(tmp_path).save(policy_step=0)
    with pytest.raises(ValueError, match="but the checkpoint") as caught:
        make_trainer(tmp_path, spec=spec)
    message = str(caught.value)
    assert word in message and "'action_size': 3" in message and str(tmp_path) in message


@pytest.mark.parametrize("part", ["world_model", "behavior", "optimizers", "gradient_step"])
@pytest.mark.parametrize("content", [None, {}, "missing"])
def test_tensors_of_another_program_are_refused(tmp_path, part, content):
    make_trainer(tmp_path).save(policy_step=0)
    found = checkpoint.load(LocalStore(tmp_path))
    found.tensors[part] = content
    if content == "missing":
        del found.tensors[part]
    checkpoint.save(LocalStore(tmp_path), step=0, tensors=found.tensors, facts=found.facts, keep=1)
    is_agent_alone = (part, content) == ("optimizers", "missing")
    expected = "holds an agent alone" if is_agent_alone else "does not fit the configured model"
    with pytest.raises(ValueError, match=expected):
        make_trainer(tmp_path)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog):
    trainer = make_trainer(tmp_path)
    for _ in range(2):
        train(trainer, 1)
        trainer.save(policy_step=0)
    (blob,) = tmp_path.glob("000000000002/tensors-*.pt")
    blob.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert make_trainer(tmp_path).gradient_step == 1
    assert "000000000002" in caplog.text and "damaged" in caplog.text


# The open-loop picture


def batch_with_resets(*resets):
    """A batch of len(resets) sequences of 8 rows; row i also restarts at the steps resets[i]."""
    batch = make_batch(size=(len(resets), 8))
    is_first = np.zeros((len(resets), 8), bool)
    is_first[:, 0] = True
    for row, steps in enumerate(resets):
        is_first[row, list(steps)] = True
    return dataclasses.replace(batch, is_first=is_first)


def drawn(trainer, batch):
    """Pixels of the picture."""
    return np.asarray(Image.open(io.BytesIO(trainer.draw_open_loop(batch)[OPEN_LOOP])))


@pytest.mark.parametrize(
    "resets",
    [[(), (), ()], [(4,), (), (2,)], [(7,), (6,), (3, 5)], [(2,), (2,), (2, 4)], [(2, 4, 6)] * 3],
    ids=["none", "some", "all", "early", "two rows each"],
)
def test_an_open_loop_picture_is_drawn_wherever_the_resets_lie(tmp_path, resets):
    trainer = make_trainer(tmp_path)
    assert drawn(trainer, batch_with_resets(*resets)).std() > 0


def test_no_picture_is_drawn_of_single_rows(tmp_path):
    every_row = tuple(range(1, 8))
    assert make_trainer(tmp_path).draw_open_loop(batch_with_resets(*[every_row] * 3)) == {}


def test_the_picture_shows_the_liveliest_of_the_longest_sequences(tmp_path):
    batch = batch_with_resets((), (), (4,))
    batch.image[0] = 128  # whole, and nothing moves
    shown = make_trainer(tmp_path)
    columns = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    alone = {name: column[1:2] for name, column in columns.items() if column is not None}
    assert (drawn(shown, batch) == drawn(shown, dataclasses.replace(batch, **alone))).all()


def test_drawing_changes_neither_the_agent_nor_the_batch(tmp_path):
    trainer, batch = make_trainer(tmp_path), batch_with_resets((), (4,))
    before, image = trainer.snapshot().params, batch.image.copy()
    trainer.draw_open_loop(batch)
    after = trainer.snapshot().params
    assert all((before[name] == after[name]).all() for name in before)
    assert (batch.image == image).all() and trainer.gradient_step == 0


def pictured(reports):
    """Which of the reports came with the picture."""
    return [OPEN_LOOP in report.pictures for report in reports if report is not None]


def test_a_report_at_the_time_of_an_evaluation_comes_with_the_picture(tmp_path):
    config = changed(CONFIG, {"evaluation.interval_frames": 20})  # 4 policy steps each step
    trainer = make_trainer(tmp_path, config=config)
    assert pictured(train(trainer, 12)) == [False, True, False, True]  # at 8, 20, 32, 44
    trainer.save(policy_step=48)
    assert pictured(train(make_trainer(tmp_path, config=config), 3)) == [False]  # at 56
    assert pictured(train(make_trainer(tmp_path / "never"), 3)) == [False]


def test_pictures_grow_rarer_in_a_long_run(tmp_path):
    config = changed(CONFIG, {"evaluation.interval_frames": 1})
    trainer = make_trainer(tmp_path, config=config)
    clock = [1000, 1010, 1020, 1030, 1040, 1050, 1060]
    due = [bool(trainer._due_picture(make_batch(), policy_step)) for policy_step in clock]
    assert due == [True, False, False, False, False, True, False]


def test_nothing_is_saved_once_a_step_turns_out_not_to_have_been_finite(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path)

    def refuse() -> None:
        raise NonFiniteLoss("the loss")

    monkeypatch.setattr(trainer.agent, "check", refuse)  # as CUDA tells it, after the step
    with pytest.raises(NonFiniteLoss):
        trainer.save(policy_step=0)
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="failed half-way"):
        trainer.save(policy_step=0)
