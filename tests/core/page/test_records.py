"""What is read of run directories: those that go back, are torn, or hardly begun."""

import json

import pytest

from dreamer_core.errors import BadInput
from dreamer_core.files import take_lock
from dreamer_core.page import records
from dreamer_core.page.records import read_run, run_dirs, variants
from dreamer_core.storage.named import DEMO_DIRECTORY
from tests.core.page.examples import STEP, a_run, append, reported, with_config
from tests.core.scores.examples import line, write_run


def test_a_run_that_goes_back_has_its_later_values(tmp_path):
    run_dir = write_run(
        tmp_path / "run",
        [reported(step, dreamer_kl_nats=float(step)) for step in (10, 20, 30)]
        + [line(30, 1.0)]
        + [reported(step, dreamer_kl_nats=-float(step)) for step in (20, 25)],
    )
    found = read_run(run_dir)
    assert found.series["dreamer_kl_nats"] == [(40, 10), (80, -20), (100, -25)]
    assert found.history.newest.policy_step == 25


def test_a_long_run_is_thinned_to_means_and_keeps_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_KEPT_POINTS", 4)
    lines = [reported(step, dreamer_kl_nats=float(step)) for step in range(1, 10)]
    found = read_run(write_run(tmp_path / "run", lines))
    assert found.series["dreamer_kl_nats"] == [(8, 1.5), (16, 3.5), (24, 5.5), (32, 7.5), (36, 9)]


def test_torn_damaged_and_not_finite_lines_are_left_out_and_told(tmp_path):
    run_dir = a_run(tmp_path / "run")
    append(run_dir, "{}\n", reported(10**6, dreamer_kl_nats=float("nan")), '{"wall_ti')
    found = read_run(run_dir)
    assert found.series["dreamer_kl_nats"][-1] == (12 * STEP, 10 / 3)
    assert "1 damaged line of its metrics left out" in found.warnings[0]


def test_a_run_without_metrics_has_no_curves(tmp_path):
    run_dir = write_run(tmp_path / "run", [])
    (run_dir / "metrics.jsonl").unlink()
    found = read_run(run_dir)
    played = found.history.evaluations.last(), found.history.training.last()
    assert (found.history.newest, *played) == (None, None, None)
    assert not found.has_checkpoint and found.holder is None


def test_a_run_that_trains_now_is_told(tmp_path):
    run_dir = a_run(tmp_path / "run")
    with take_lock(run_dir / "run.lock"):
        assert read_run(run_dir).holder.startswith("process ")


def test_runs_of_a_sweep_are_found_and_each_counts_once(tmp_path):
    for name in ("b", "a"):
        a_run(tmp_path / "sweep" / name)
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    found = run_dirs([tmp_path / "sweep", tmp_path / "sweep" / "a"])
    assert [each.name for each in found] == ["a", "b"]
    assert run_dirs(["demo"]) == [DEMO_DIRECTORY]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere", "There is no directory"),
        ("file", "There is no directory"),
        ("", "1 run lie"),
        ("empty", "holds neither a run .* nor a sweep"),
        ("begun", "No run of the sweep in .* is begun"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, name, part):
    (tmp_path / "file").touch()
    a_run(tmp_path / "run")
    for each in ("empty", "begun"):
        (tmp_path / each).mkdir()
    (tmp_path / "begun" / "sweep.json").write_text("{}")
    with pytest.raises(BadInput, match=part):
        run_dirs([tmp_path / name])


def test_runs_belong_together_that_differ_in_task_and_seed_alone(tmp_path):
    records = [
        read_run(a_run(tmp_path / "a", task="pong", seed=0)),
        read_run(a_run(tmp_path / "b", task="boxing", seed=1)),
        read_run(a_run(tmp_path / "c", behavior={"horizon": 5})),
        read_run(with_config(a_run(tmp_path / "d"), preset="no_layer_norm", steps=7)),
    ]
    found = variants(records)
    assert [len(each.runs) for each in found] == [2, 1, 1]
    labels = [each.label for each in found]
    assert labels[:2] == ["atari, as it is", "atari, horizon 5"]
    assert labels[2] == "no_layer_norm"


def test_a_preset_that_this_version_does_not_know_is_a_variant_of_its_own(tmp_path):
    (found,) = variants([read_run(a_run(tmp_path / "a", preset="<b>new"))])
    assert found.label == "<b>new"


def test_a_config_that_cannot_be_used_is_refused(tmp_path):
    run_dir = a_run(tmp_path / "run")
    (run_dir / "config.json").write_text(json.dumps({"env": 3}))
    with pytest.raises(BadInput, match="env is no section"):
        read_run(run_dir)
