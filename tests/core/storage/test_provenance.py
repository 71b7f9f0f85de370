"""Which program wrote a run: said by the run, named when another cannot go on with it."""

import json
import logging

import pytest

from dreamer_core.fields import to_dict
from dreamer_core.presets import preset
from dreamer_core.storage import provenance
from dreamer_core.storage.identity import require_same_run, saved_config
from dreamer_core.storage.provenance import RUN_FORMAT, program, read_versions, short, stamp, writer
from dreamer_core.storage.run_directory import RunDirectoryError, open_run, read_config
from dreamer_core.types import EnvSpec
from tests.core.small import changed

CONFIG = preset("debug")
SPEC = EnvSpec(image_shape=(64, 64, 1), action_size=18, is_discrete=True, action_names=None)
NEWER = {"version": "9.8.7", "commit": "f" * 40, "python": "3.19.0", "libraries": {}}


@pytest.fixture
def run_dir(tmp_path):
    with open_run(tmp_path / "run", CONFIG) as paths:
        pass
    return paths


def rewritten(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def by_a_newer_program(paths, run_format=RUN_FORMAT):
    rewritten(paths.versions, lambda v: v.update(format=run_format, programs=[NEWER]))


def test_a_new_run_says_which_program_writes_it(run_dir):
    said = read_versions(run_dir.versions)
    (entry,) = said.programs
    assert said.format == RUN_FORMAT and entry["version"] == program().version
    assert {"torch", "numpy", "ale-py"} <= entry["libraries"].keys()


def test_the_same_program_adds_nothing_and_another_is_named(tmp_path):
    path = tmp_path / "versions.json"
    assert "before" not in " ".join(stamp(path, {}))
    assert stamp(path, {}) == []
    rewritten(path, lambda v: v["programs"].append(NEWER))
    assert "before by dreamer 9.8.7 (commit ffffffffffff)" in " ".join(stamp(path, {}))
    assert [p["version"] for p in read_versions(path).programs] == [
        program().version, "9.8.7", program().version,
    ]  # fmt: skip


def test_settings_that_an_older_run_lacks_take_their_defaults_and_are_told(run_dir):
    def older(values):
        del values["steps"], values["replay"]["capacity_steps"]

    rewritten(run_dir.config, older)
    told = []
    config = changed(CONFIG, {"replay.capacity_steps": 2_000_000, "steps": 9})
    with open_run(run_dir.root, config, told.append):
        pass
    assert "Settings that the run did not have before: steps=9" in told[-1]
    assert "replay.capacity_steps=2000000" in told[-1]
    assert "new_settings" in read_versions(run_dir.versions).programs[-1]


def test_a_run_of_a_newer_format_is_refused_by_both_versions_and_left_alone(run_dir):
    by_a_newer_program(run_dir, RUN_FORMAT + 1)
    before = run_dir.versions.read_bytes()
    with (
        pytest.raises(RunDirectoryError, match=r"dreamer 9\.8\.7") as caught,
        open_run(run_dir.root, CONFIG),
    ):
        pass
    assert f"this is dreamer {program().version}" in str(caught.value)
    assert run_dir.versions.read_bytes() == before


def test_settings_of_a_newer_program_are_refused_for_training_and_left_out_for_reading(
    run_dir, caplog
):
    by_a_newer_program(run_dir)
    rewritten(run_dir.config, lambda v: v["world_model"].update(thoughts=3))
    with (
        pytest.raises(RunDirectoryError, match=r"thoughts.*9\.8\.7"),
        open_run(run_dir.root, CONFIG),
    ):
        pass
    assert read_config(run_dir.root) == CONFIG
    assert "world_model.thoughts" in caplog.text and "9.8.7" in caplog.text


def test_a_checkpoint_of_a_newer_program_is_read_but_not_resumed(caplog):
    config = {**to_dict(CONFIG), "thoughts": 3}
    facts = {"config": config, "program": NEWER}
    assert saved_config(facts, "there") == CONFIG
    assert "thoughts" in caplog.text
    with pytest.raises(ValueError, match=r"thoughts.*dreamer 9\.8\.7"):
        require_same_run(facts, "there", CONFIG, SPEC)


def test_what_nobody_says_is_unknown_and_never_guessed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a" / "b" / "provenance.py"))
    monkeypatch.delenv("DREAMER_COMMIT", raising=False)
    assert provenance._commit() is None and short(None) == "unknown"
    monkeypatch.setenv("DREAMER_COMMIT", "abc")
    assert provenance._commit() == "abc"
    assert provenance._installed("no-such-package") is None
    assert "does not say which dreamer" in writer(None)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "x"}', b'{"format": 0}'])
def test_versions_that_cannot_be_understood_count_as_not_said(tmp_path, content):
    path = tmp_path / "versions.json"
    path.write_bytes(content)
    assert read_versions(path) == provenance.Versions(1, ())


def test_news_is_logged_once_there_is_a_log(run_dir, caplog):
    caplog.set_level(logging.INFO)
    by_a_newer_program(run_dir)
    with open_run(run_dir.root, CONFIG):
        pass
    assert "before by dreamer 9.8.7" in caplog.text
