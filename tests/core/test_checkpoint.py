"""Checkpoints: whole or not at all, verified before they are used."""

import json
import logging
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer_core import checkpoint
from dreamer_core.checkpoint import CheckpointCorrupt, load, save

FACTS = {"policy_steps": 7, "config": {"seed": 0, "shape": [64, 64]}}


def tensors_of(step: int) -> dict:
    nested = {"moments": {0: torch.full((3,), float(step))}, "groups": [{"lr": 1e-4}], "none": None}
    return {"weight": torch.full((2, 2), step), "optimizer": nested}


def save_steps(directory: Path, *steps: int, keep: int = 3) -> None:
    for step in steps:
        save(directory, step=step, tensors=tensors_of(step), facts=FACTS, keep=keep)


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x04
    path.write_bytes(content)


def test_what_is_saved_is_loaded(tmp_path):
    save_steps(tmp_path, 12)
    found = load(tmp_path)
    assert found is not None and found.step == 12 and found.path == tmp_path / "000000000012"
    assert found.facts == FACTS
    assert torch.equal(found.tensors["weight"], tensors_of(12)["weight"])
    assert torch.equal(found.tensors["optimizer"]["moments"][0], torch.full((3,), 12.0))
    assert found.tensors["optimizer"]["groups"] == [{"lr": 1e-4}]


def test_optimizer_and_module_states_round_trip(tmp_path):
    module = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    adam.step()
    states = {"module": module.state_dict(), "adam": adam.state_dict()}
    save(tmp_path, step=1, tensors=states, facts={}, keep=1)
    found = load(tmp_path)
    adam.load_state_dict(found.tensors["adam"])
    module.load_state_dict(found.tensors["module"])


def test_a_directory_without_checkpoints_gives_none(tmp_path):
    assert load(tmp_path) is None
    assert load(tmp_path / "missing") is None


def test_the_newest_are_kept(tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4, 5, keep=2)
    assert steps_in(tmp_path) == [4, 5] and load(tmp_path).step == 5
    assert load(tmp_path, step=4).step == 4


def test_a_step_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    save_steps(tmp_path, 1, 2)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 7 .*\[2, 1\]"):
        load(tmp_path, step=7)


def test_after_going_back_the_abandoned_future_goes_first(tmp_path):
    save_steps(tmp_path, 100, 200, 300)
    save_steps(tmp_path, 150, keep=2)
    assert steps_in(tmp_path) == [100, 150] and load(tmp_path).step == 150


def test_saving_a_step_again_replaces_it_or_leaves_the_same_alone(tmp_path):
    save_steps(tmp_path, 1)
    inode = (tmp_path / "000000000001").stat().st_ino
    save_steps(tmp_path, 1)
    assert (tmp_path / "000000000001").stat().st_ino == inode
    save(tmp_path, step=1, tensors={"weight": torch.zeros(1)}, facts={}, keep=3)
    assert load(tmp_path).facts == {} and steps_in(tmp_path) == [1]
    assert not list(tmp_path.glob(".*"))


def test_saving_over_a_damaged_step_mends_it(tmp_path):
    save_steps(tmp_path, 1)
    flip(tmp_path / "000000000001" / "tensors.pt", 100)
    save_steps(tmp_path, 1)
    assert load(tmp_path).step == 1


class PowerCutError(Exception):
    """Ends the process at one operation."""


@pytest.mark.parametrize("step", [20, 10])
def test_a_crash_at_any_file_operation_leaves_a_good_checkpoint(tmp_path, monkeypatch, step):
    operations = [("_write", name) for name in ("tensors.pt", "manifest.json", ".temporary-LATEST")]
    moves = [("rename", ".temporary-0000000000"), ("replace", ".temporary-LATEST")]
    moves += [("rename", "0000000000")] if step == 10 else []
    for number, (operation, name) in enumerate(operations + moves):
        directory = tmp_path / str(number)
        save(directory, step=10, tensors=tensors_of(10), facts={"is_old": True}, keep=1)
        with monkeypatch.context() as patch:
            owner = checkpoint if operation == "_write" else Path
            patch.setattr(owner, operation, dies_at(getattr(owner, operation), name))
            with pytest.raises(PowerCutError):
                save_steps(directory, step, keep=1)
        found = load(directory)
        assert found.step == 10 and torch.equal(found.tensors["weight"], tensors_of(10)["weight"])
        save_steps(directory, step, keep=1)
        assert load(directory).step == step and load(directory).facts == FACTS
        assert steps_in(directory) == [step] and not list(directory.glob(".*"))


def test_a_step_that_a_crash_had_moved_away_survives_a_second_crash(tmp_path, monkeypatch):
    save_steps(tmp_path, 10)
    (tmp_path / "000000000010").rename(tmp_path / ".replaced-000000000010")
    monkeypatch.setattr(checkpoint, "_write", dies_at(checkpoint._write, "tensors.pt"))
    with pytest.raises(PowerCutError):
        save_steps(tmp_path, 20)
    assert load(tmp_path).step == 10


def dies_at(operation, name):
    def run(path, *arguments):
        if path.name.startswith(name):
            raise PowerCutError
        return operation(path, *arguments)

    return run


@pytest.mark.parametrize("file", ["tensors.pt", "manifest.json"])
def test_a_flipped_bit_is_named_and_the_checkpoint_before_is_used(tmp_path, caplog, file):
    save_steps(tmp_path, 1, 2)
    path = tmp_path / "000000000002" / file
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 40)):
        flip(path, at)
        is_same = file == "manifest.json" and is_same_json(content, path.read_bytes())
        assert is_same or load(tmp_path).step == 1
        path.write_bytes(content)
    assert "000000000002 is damaged" in caplog.text
    assert load(tmp_path).step == 2


def is_same_json(first: bytes, second: bytes) -> bool:
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


def test_missing_and_short_files_are_damage(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    (tmp_path / "000000000003" / "manifest.json").unlink()
    blob = tmp_path / "000000000002" / "tensors.pt"
    blob.write_bytes(blob.read_bytes()[:-1])
    assert load(tmp_path).step == 1


def test_if_all_are_damaged_each_is_named(tmp_path):
    save_steps(tmp_path, 1, 2)
    for name in ("000000000001", "000000000002"):
        flip(tmp_path / name / "tensors.pt", 50)
    with pytest.raises(CheckpointCorrupt, match=r"000000000002: .*000000000001: "):
        load(tmp_path)


def test_a_damaged_step_that_was_asked_for_is_not_replaced_by_another(tmp_path):
    save_steps(tmp_path, 1, 2)
    flip(tmp_path / "000000000002" / "tensors.pt", 50)
    with pytest.raises(CheckpointCorrupt, match="does not match its hash"):
        load(tmp_path, step=2)


def test_a_step_under_another_name_is_damage(tmp_path):
    save_steps(tmp_path, 1)
    (tmp_path / "000000000001").rename(tmp_path / "000000000005")
    with pytest.raises(CheckpointCorrupt, match="of step 1, wanted 5"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "x\x00", "77"])
def test_a_damaged_latest_is_named_and_the_newest_is_used(tmp_path, caplog, content):
    save_steps(tmp_path, 1, 2)
    (tmp_path / "LATEST").write_text(content)
    assert load(tmp_path).step == 2 and "LATEST" in caplog.text
    (tmp_path / "LATEST").unlink()
    assert load(tmp_path).step == 2


def test_another_format_version_is_refused_and_not_taken_for_damage(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 2)
    save_steps(tmp_path, 2)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="checkpoint format 2, wanted 1"):
        load(tmp_path)


def test_a_pickled_object_is_neither_saved_nor_loaded(tmp_path):
    with pytest.raises(TypeError, match=r"tensors\['a'\]\[0\] is float64"):
        save(tmp_path, step=1, tensors={"a": [np.float64(1)]}, facts={}, keep=1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(tmp_path, step=1, tensors={}, facts={"path": tmp_path}, keep=1)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_the_old_checkpoint_stays(tmp_path):
    save_steps(tmp_path, 1, keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"saving checkpoint 2 failed: .*free disk space"):
            save_steps(tmp_path, 2, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(tmp_path).step == 1 and not list(tmp_path.glob(".*"))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="saving checkpoint 1 failed") as raised:
        save_steps(tmp_path / "file", 1)
    assert str(tmp_path / "file") in str(raised.value)


@pytest.mark.parametrize("arguments", [{"step": -1, "keep": 1}, {"step": 1, "keep": 0}])
def test_a_step_below_zero_and_keeping_none_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="keep=") as raised:
        save(tmp_path, tensors={}, facts={}, **arguments)
    assert "step=" in str(raised.value)


def test_loading_changes_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    save_steps(tmp_path, 1, 2)
    (tmp_path / ".temporary-000000000003").mkdir()
    (tmp_path / "000000000002").rename(tmp_path / ".replaced-000000000002")
    before = sorted(tmp_path.rglob("*"))
    assert load(tmp_path).step == 2
    assert sorted(tmp_path.rglob("*")) == before and not caplog.messages
