"""benchmarks/gpu_check.py on a CPU, with what is captured replaced by eager."""

import json
import time

import pytest

from benchmarks import gpu_check
from benchmarks.gpu import driver
from benchmarks.gpu.driver import AGAIN, Item, drive
from benchmarks.gpu.results import Results

ON_CPU = ("--device", "cpu", "--preset", "debug", "--seconds", "0.05")
HERE = {"hardware": {"cpu": "this one"}, "commit": None}


def find_out(part: str, name: str, folder, *arguments: object) -> dict:
    """What the process of one thing finds."""
    answer = folder / "answer"
    options = map(str, ("--only", name, "--to", answer, "--out", folder, *arguments))
    assert gpu_check.main([part, *ON_CPU, *options]) == 0
    return json.loads(answer.read_text())["result"]


@pytest.mark.parametrize(
    "name",
    ["eager float32 against eager float32", "scan against plain recurrence", "not finite"],
)
def test_correctness_is_checked(tmp_path, name):
    assert find_out("correctness", name, tmp_path)["passed"]


def test_steps_policies_and_layers_are_timed(tmp_path):
    update = find_out("timings", "update 3 x 8 eager float32", tmp_path)
    assert update["median_s"] > 0 and update["ratio_to_floor"] > 1
    assert sum(row["calls"] for row in update["slowest"]) <= update["kernels"]
    assert find_out("acting", "policy on 1 threads", tmp_path)["median_s"] > 0
    assert find_out("layers", "convolutions by trial", tmp_path)["decoder 3"]["both"] > 0
    few = find_out("layers", "layers of few channels", tmp_path)
    assert set(few) == {
        f"{layer} {how}"
        for layer in ("encoder 0", "decoder 3")
        for how in ("plain", "of 8 channels", "by blocks")
    }


def test_training_stops_resumes_reaches_its_frames_and_begins_from_a_small_checkpoint(tmp_path):
    train = ("train", "training", tmp_path, "--game", "pong")
    first = ("--run-dir", tmp_path / "run", "--small-checkpoint")
    before = find_out(*train, *first, "--minutes", 0.03, "--frames", 1200)
    assert 0 < before["frames"] < 1200
    after = find_out(*train, *first, "--minutes", 5, "--frames", 1200)
    assert after["frames"] == 1200
    assert sum(path.stat().st_size for path in (tmp_path / "pong").glob("weights_*.pt")) < 200_000
    assert (tmp_path / "pong_learning_curve.png").exists()
    again = ("--run-dir", tmp_path / "other", "--weights-from", tmp_path / "pong")
    find_out(*train, *again, "--minutes", 0.02)
    assert (tmp_path / "other" / "checkpoints").exists()


# The driver, with shell scripts for what it runs: $2 is a thing's name, $4 where its result goes


def thing(name: str, results: Results, script: str, **how: object) -> Item:
    answer = json.dumps({"machine": HERE, "result": {"is": name}})
    given = script.replace("ANSWER", f"echo '{answer}' >$4")
    return Item(name=name, results=results, command=["sh", "-c", given, "sh"], **how)


def results(folder, code: str = "one") -> Results:
    return Results(folder / "part.json", {"seed": 0}, code)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(driver, "_LEAST_S", {True: 0.0, False: 0.0})


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@pytest.mark.usefixtures("quick")
def test_what_was_cut_off_is_done_by_the_next_command_and_nothing_twice(tmp_path):
    def group(found: Results) -> list[Item]:
        slow = f"[ -e {tmp_path}/again ] || sleep 60; ANSWER"
        scripts = {"a": "ANSWER", "b": slow, "c": "exit 3"}
        note = f"echo $2 >>{tmp_path}/begun; "
        return [thing(name, found, note + script) for name, script in scripts.items()]

    assert not drive([group(results(tmp_path))], until=soon(1.0))
    (tmp_path / "again").touch()
    found = results(tmp_path)
    assert drive([group(found)], until=soon())
    assert drive([group(results(tmp_path))], until=soon())
    assert (tmp_path / "begun").read_text().split() == ["a", "b", "b", "c"]
    assert found.of("b") == {"is": "b"} and found.of("c")["error"] == "ended with 3"
    assert not found.has_passed()
    kept = json.loads((tmp_path / "part.json").read_text())
    assert kept["hardware"] == HERE["hardware"] and kept["settings"] == {"seed": 0}


@pytest.mark.usefixtures("quick")
def test_what_does_not_end_in_a_whole_commands_time_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_WHOLE_S", 0.1)
    found = results(tmp_path)
    group = [thing(name, found, "sleep 60", is_alone=False) for name in "ab"]
    began = time.monotonic()
    assert not drive([group], until=soon(0.3))
    assert time.monotonic() - began < 20
    assert all("not done in 0 s" in found.of(name)["error"] for name in "ab")
    assert drive([group], until=soon())


@pytest.mark.usefixtures("quick")
def test_a_training_goes_on_until_it_has_its_frames(tmp_path):
    found = results(tmp_path)
    found.keep("training", {"frames": 400}, HERE)
    script = 'echo \'{"machine": null, "result": {"frames": 1000}}\' >$4'
    group = [thing("training", found, script, is_training=True, frames=1000)]
    assert drive([group], until=soon()) and found.of("training") == {"frames": 1000}
    later = [thing("training", found, "exit 1", is_training=True, frames=1000)]
    assert drive([later], until=soon())


def test_results_of_other_code_or_of_another_machine_are_not_taken_for_these(tmp_path):
    results(tmp_path).keep("a", {"is": 1}, HERE)
    assert results(tmp_path).of("a") == {"is": 1}
    assert results(tmp_path, code="two").of("a") is None
    found = results(tmp_path)
    found.keep("b", {"is": 2}, {**HERE, "hardware": {"cpu": "another"}})
    assert found.of("a") is None and found.of("b") == {"is": 2}


def test_all_is_the_whole_list_in_its_order_and_is_done_once_nothing_is_lacking(
    tmp_path, monkeypatch
):
    seen: list[Item] = []

    def look(groups: list[list[Item]], until: float) -> bool:
        seen.extend(item for group in groups for item in group)
        return False

    monkeypatch.setattr(gpu_check, "drive", look)
    (tmp_path / "check_scan.py").touch()
    given = ["all", "--out", str(tmp_path), "--prototypes", str(tmp_path), "--preset", "debug"]
    assert gpu_check.main(given) == AGAIN
    names = [item.name for item in seen]
    order = [
        "pytest", "compiled bfloat16 against eager float32", "captured bfloat16 for 200 steps",
        "policy", "schedule", "convolutions by heuristics", "layers of few channels", "node",
        "check_scan", "update 3 x 8 compiled bfloat16", "update 2 x 8 eager tf32", "snapshot",
        "policy on 8 threads", "policy on the card beside the learner", "training",
    ]  # fmt: skip
    places = [names.index(name) for name in order]
    assert places == sorted(places)
    trained = [item.command[item.command.index("--game") + 1] for item in seen[-3:]]
    assert trained == ["boxing", "freeway", "walker_walk"]
