"""`dreamer replay`: what it prints, and that its exit code tells whether all is whole."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer_core import presets
from dreamer_core.bench.replay import fill_replay
from dreamer_core.replay.reader import ReplayFiles
from dreamer_core.run.local import train_local
from dreamer_core.storage.run_directory import open_run, read_config
from services import cli
from tests import runs
from tests.core.replay.counting import flip, records_of
from tests.core.small import DISCRETE, small

CONFIG = small("debug", replay={"segment_steps": 128, "capacity_steps": 1_000})


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A run that has stored one open episode of 320 rows in three segments."""
    run_dir = tmp_path_factory.mktemp("stored") / "run"
    with open_run(run_dir, CONFIG) as paths:
        fill_replay(paths.replay, CONFIG.replay, DISCRETE, rows=320)
    return run_dir


@pytest.fixture
def run_dir(stored, tmp_path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "run"))


@pytest.fixture
def dreamer_replay(capsys, monkeypatch):
    """Runs the command: (exit code, all words it wrote)."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["replay", *map(str, arguments)])
        written = capsys.readouterr()
        return caught.value.code or 0, " ".join((written.out + written.err).split())

    return run


def second_segment(run_dir: Path) -> Path:
    return run_dir / "replay" / "00000001.segment"


def test_inspect_shows_totals_segments_and_that_nothing_is_damaged(dreamer_replay, run_dir):
    code, words = dreamer_replay("inspect", run_dir)
    assert code == 0
    for part in (
        "policy steps ever 319",
        "episodes ever 1",
        "rows held 320",
        "incarnations 0",
        "image 64 x 64 x 1, action 3",
        "00000001.segment 128 2 1",
        "closed",
        "No damage found.",
    ):
        assert part in words, part


def test_verify_of_a_whole_replay_says_so(dreamer_replay, run_dir):
    code, words = dreamer_replay("verify", run_dir)
    assert code == 0 and "No damage found. 320 rows in" in words


def test_verify_names_the_damaged_bytes_and_exits_with_1(dreamer_replay, run_dir):
    path = second_segment(run_dir)
    record = records_of(path)[1]
    flip(path, record.payload_at + 1_000)
    code, words = dreamer_replay("verify", run_dir)
    assert code == 1
    assert f"{path}: bytes {record.start:,} to {record.end:,}: the payload does not" in words
    assert "Damaged stretches: 1." in words and "256 rows in" in words
    assert dreamer_replay("inspect", run_dir)[0] == 0


def test_a_torn_tail_is_told_with_what_it_may_be(dreamer_replay, run_dir, monkeypatch):
    monkeypatch.setattr("dreamer_core.replay.reader._WRITE_PATIENCE_S", 0.0)
    path = run_dir / "replay" / "00000002.segment"
    path.write_bytes(path.read_bytes()[:-5])
    code, words = dreamer_replay("verify", run_dir)
    assert code == 1 and "a slow write may be under way" in words


def test_what_repairs_set_aside_is_listed(dreamer_replay, run_dir):
    path = second_segment(run_dir)
    path.rename(path.with_name(path.name + ".damaged"))
    _, words = dreamer_replay("inspect", run_dir)
    assert "kept by repairs 00000001.segment.damaged" in words
    assert "00000002.segment 64 1 1" in words and " 128 closed" in words


def test_export_writes_episodes_and_says_how_many(dreamer_replay, run_dir, tmp_path):
    code, words = dreamer_replay("export", run_dir, "--to", tmp_path / "out", "--compress")
    assert code == 0 and ": 1, with 320 rows." in words and "first rows): 1." in words
    (path,) = (tmp_path / "out").iterdir()
    with np.load(path) as file:
        assert file["image"].shape == (320, 64, 64, 1) and not file["is_complete"]


def test_export_leaves_damaged_rows_out_and_exits_with_1(dreamer_replay, run_dir, tmp_path):
    flip(second_segment(run_dir), records_of(second_segment(run_dir))[0].payload_at)
    code, words = dreamer_replay("export", run_dir, "--to", tmp_path / "out")
    assert code == 1 and ": 2, with 256 rows." in words


def test_nothing_is_written_to_the_run(dreamer_replay, run_dir, tmp_path):
    flip(second_segment(run_dir), 3)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    for arguments in (("inspect",), ("verify",), ("export", "--to", tmp_path / "out")):
        dreamer_replay(arguments[0], run_dir, *arguments[1:])
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["inspect", "RUN/nowhere"], ["nowhere", "config.json"]),
        (["mend", "RUN"], ["mend", "inspect, verify, export"]),
        (["export", "RUN"], ["--to"]),
        (["export", "RUN", "--to", "RUN"], ["new or empty directory", "--to"]),
        (["export", "RUN", "--to", "RUN/config.json/x"], ["Not a directory", "Free disk space"]),
        (["export", "RUN", "--to", "RUN/x", "--episodes", "0"], ["--episodes 0", "1 or more"]),
    ],
)
def test_bad_input_is_refused(dreamer_replay, run_dir, arguments, parts):
    code, words = dreamer_replay(*(part.replace("RUN", str(run_dir)) for part in arguments))
    assert code == 2
    for part in parts:
        assert part in words, words


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_run_that_has_stored_nothing_is_refused(dreamer_replay, run_dir, command):
    shutil.rmtree(run_dir / "replay")
    code, words = dreamer_replay(command, run_dir)
    assert code == 2 and "holds none; name a run that has stored rows" in words


# Import


CATCH = ("--preset", "debug", *runs.CATCH)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory) -> Path:
    """Six episodes of Catch as the authors' code would write them, 60 policy steps in all."""
    to = tmp_path_factory.mktemp("episodes")
    step = np.arange(11)
    for number in range(6):
        action = np.eye(3, dtype=np.float16)[step % 3] * (step > 0)[:, None]
        np.savez(
            to / f"episode-{number}.npz",
            image=np.full((11, 64, 64, 1), number, np.uint8),
            action=action.astype(np.float16),
            reward=(step == 10).astype(np.float16),
            discount=1.0 - (step == 10),
            reset=step == 0,
        )
    return to


def test_a_run_trains_on_from_imported_episodes(dreamer_replay, episodes, tmp_path):
    run_dir = tmp_path / "run"
    code, words = dreamer_replay("import", episodes, "--run-dir", run_dir, *CATCH)
    assert code == 0 and "6, with 66 rows, 60 policy steps; 6 end by the task's own end" in words
    config = replace(read_config(run_dir), steps=70)
    result = train_local(config, run_dir)
    assert result.is_finished and result.policy_steps == 70
    assert result.gradient_steps >= (70 - config.schedule.prefill_policy_steps) // 4
    files = ReplayFiles(run_dir / "replay")
    assert files.totals.last_incarnation == 1 and not files.damage()
    assert not list(run_dir.glob("*.tmp"))


def test_what_is_exported_comes_back_the_same_and_into_a_new_run_alone(
    dreamer_replay, episodes, tmp_path
):
    run_dir, other = tmp_path / "run", tmp_path / "other"
    assert dreamer_replay("import", episodes, "--run-dir", run_dir, *CATCH)[0] == 0
    assert dreamer_replay("export", run_dir, "--to", tmp_path / "out")[0] == 0
    assert dreamer_replay("import", tmp_path / "out", "--run-dir", other, *CATCH)[0] == 0
    assert dreamer_replay("export", other, "--to", tmp_path / "again")[0] == 0
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    code, words = dreamer_replay("import", tmp_path / "out", "--run-dir", other)
    assert code == 2 and "Wanted a run that has stored no rows" in words


def test_a_run_in_use_takes_no_episodes_and_the_next_start_removes_what_a_kill_left(
    dreamer_replay, episodes, tmp_path
):
    config = presets.preset("debug")
    with open_run(tmp_path / "run", config) as paths:
        code, words = dreamer_replay("import", episodes, "--run-dir", paths.root)
        assert code == 2 and "is in use by" in words
        torn = paths.root / "replay.tmp"
        torn.mkdir()
        (torn / "00000000.segment").write_bytes(b"torn")
    with open_run(tmp_path / "run", config):
        assert not torn.exists() and not paths.replay.exists()


def test_nothing_is_left_of_an_import_that_is_refused(dreamer_replay, episodes, tmp_path):
    given = shutil.copytree(episodes, tmp_path / "given")
    (given / "episode-5.npz").write_bytes(b"torn")
    run_dir = ("--run-dir", tmp_path / "run")
    for arguments, said in (
        ((given, *run_dir, *CATCH), "episode-5.npz is no whole .npz file"),
        ((episodes, *run_dir), "Wanted --preset NAME"),
        ((episodes, *CATCH), "no --run-dir were named"),
        ((*run_dir, *CATCH), "no files were named"),
        ((episodes, *run_dir, "--preset", "debug"), "actions of 18"),
    ):
        code, words = dreamer_replay("import", *arguments)
        assert code == 2 and said in words, words
        assert not (tmp_path / "run").exists()
