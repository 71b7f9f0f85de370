"""`dreamer bench`: what it measures, writes and refuses."""

import json

import pytest


def test_bench_writes_what_it_measured(dreamer, tmp_path):
    code, out, _ = dreamer(
        "bench", "learner", "debug", "--seconds", "0.1", "--json", "learner.json",
        "--replay.batch-size", "2",
    )  # fmt: skip
    assert code == 0
    assert "gradient step of 2 x 8" in out
    found = json.loads((tmp_path / "learner.json").read_text())
    assert found["p10_s"] <= found["median_s"] <= found["p90_s"]
    assert found["settings"]["preset"] == "debug"


def test_bench_run_measures_a_real_run(dreamer, tmp_path):
    code, _, told = dreamer(
        "bench", "run", "debug", "--learner.device", "cpu", "--seconds", "2",
        "--steps", "100000", "--json", "run.json", "--metrics.port", "0",
    )  # fmt: skip
    assert code == 0, told
    details = json.loads((tmp_path / "run.json").read_text())["details"]
    assert details["frames_per_second"] == pytest.approx(
        details["gradient_steps_per_second"] * 4 * 4  # ratio and action repeat of the preset
    )
    assert any("Learner" in name for name in details["peak_resident_bytes"])


def test_bench_replay_measures_each_size_and_the_wire(dreamer, tmp_path):
    code, _, _ = dreamer(
        "bench", "replay", "debug", "--rows", "300", "600", "--seconds", "0.2",
        "--json", "replay.json",
    )  # fmt: skip
    assert code == 0
    details = json.loads((tmp_path / "replay.json").read_text())["details"]
    assert set(details["by_rows"]) == {"300", "600"}
    assert 0 < details["delivered"]["batches_per_second"] < 1e5  # each one has been through Ray


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bench",), "There is nothing named '' to measure; known are learner, policy"),
        (("bench", "gpu"), "There is nothing named 'gpu' to measure"),
        (("bench", "env", "--seconds", "0"), "--seconds 0: wanted more than 0"),
        (("bench", "replay", "--rows", "3"), "wanted sizes of 50 rows or more"),
        (("bench", "env", "atary"), "did you mean atari"),
    ],
)
def test_bench_refuses_what_it_cannot_measure(refused, arguments, words):
    assert words in refused(*arguments)


@pytest.mark.parametrize(
    ("path", "reason"), [("new/x.json", "No such file or directory"), (".", "Is a directory")]
)
def test_a_result_that_could_not_be_written_is_refused_before_it_is_measured(
    refused, monkeypatch, path, reason
):
    monkeypatch.setattr("services.bench.measure", None)  # is not to be called
    message = refused("bench", "env", "debug", "--json", path)
    assert f"write the result to {path}, but {reason}. Name a file with --json" in message


def test_what_was_refused_leaves_no_empty_result(refused):
    refused("bench", "env", "gymnasium_tiny", "--env.task", "no.such:env", "--json", "x.json")


def test_a_bench_without_a_preset_is_of_atari(dreamer, monkeypatch):
    presets = []
    monkeypatch.setattr(
        "services.bench.measure", lambda _, config, *__, **___: presets.append(config.preset)
    )
    for words in ((), ("--seconds", "1"), ("atari_tiny",), ("atari_tiny", "--seconds", "1")):
        dreamer("bench", "env", *words)
    assert presets == ["atari", "atari", "atari_tiny", "atari_tiny"]
